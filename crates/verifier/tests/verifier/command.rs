//! The program: its commands, its output and its exit codes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use zeroauth_audit_core::note::SigningKey;

use super::trail::{self, Trail};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zeroauth-audit");

fn run(arguments: &[&str]) -> (i32, String, String) {
    text(Command::new(PROGRAM).args(arguments).output().unwrap())
}

fn text(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A folder with an export, its intervals, a checkpoint and a public key.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut trail = Trail::new("acme");
    trail.append(0, 5);
    trail.append(1, 2);
    let checkpoint = trail.seal();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    write("export.jsonl", trail.export());
    write("intervals.jsonl", trail.intervals.clone());
    write("checkpoint", checkpoint.sign(&trail::key(), trail::BEGIN).unwrap());
    write("key.pub", format!("{}\n", trail::key().verifier_key()));
    folder
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn the_exit_code_says_verified_tampered_or_could_not_check() {
    let folder = folder();
    let at = |name| path(folder.path(), name);
    let export = at("export.jsonl");
    let all = |export: &str| {
        run(&[
            "verify-export",
            export,
            "--key",
            &at("key.pub"),
            "--checkpoint",
            &at("checkpoint"),
            "--intervals",
            &at("intervals.jsonl"),
        ])
    };
    let (code, out, _) = all(&export);
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("verified: "), "{out}");
    assert!(out.contains("sealed at 2026-11-21T00:00:00Z: the events have its root"), "{out}");

    let tampered = fs::read_to_string(&export).unwrap().replacen("success", "failure", 1);
    fs::write(at("tampered"), tampered).unwrap();
    let (code, out, _) = all(&at("tampered"));
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("content_mismatch: tenant \"acme\", chain 0, seq 1, event 0006"), "{out}");

    let (code, _, error) = all(&at("nothing"));
    assert_eq!(code, 2);
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn the_verdict_is_one_json_object_if_asked_for() {
    let folder = folder();
    let export = path(folder.path(), "export.jsonl");
    let (code, out, _) = run(&["verify-export", "--json", &export]);
    let verdict: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &verdict["verdict"], &verdict["events"]), (0, &"verified".into(), &7.into()));
    fs::write(&export, "x\n").unwrap();
    let (code, out, _) = run(&["--json", "verify-export", &export]);
    let verdict: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &verdict["verdict"]), (2, &"could_not_check".into()));
    assert_eq!((&verdict["troubles"][0]["line"], &verdict["troubles"][0]["byte"]), (&1.into(), &0.into()));
}

#[test]
fn an_export_is_read_from_standard_input_too() {
    let folder = folder();
    let export = fs::read(folder.path().join("export.jsonl")).unwrap();
    let mut child = Command::new(PROGRAM)
        .args(["verify-export", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&export).unwrap();
    let (code, out, _) = text(child.wait_with_output().unwrap());
    assert_eq!(code, 0, "{out}");
}

#[test]
fn checkpoints_without_a_key_are_refused_before_anything_is_read() {
    let folder = folder();
    let at = |name| path(folder.path(), name);
    let (code, _, error) = run(&["verify-export", &at("export.jsonl"), "--checkpoint", &at("checkpoint")]);
    assert_eq!(code, 2);
    assert!(error.contains("--key"), "{error}");
    assert_eq!(run(&["verify-bundle", &at("export.jsonl")]).0, 2);
    assert_eq!(run(&["verify-checkpoints", &path(folder.path(), "")]).0, 2);
}

#[test]
fn a_wrong_command_line_could_not_check_and_help_is_no_error() {
    assert_eq!(run(&["verify-everything"]).0, 2);
    assert_eq!(run(&[]).0, 2);
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("Exit codes: 0 verified, 1 tampered, 2 could not check"), "{out}");
}

#[test]
fn a_key_is_made_shown_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "log.key");
    let (code, made, _) = run(&["keygen", "--out", &file, "--origin", "log.example/audit"]);
    assert_eq!(code, 0);
    assert!(made.starts_with("log.example/audit+"), "{made}");
    assert_eq!(run(&["public-key", &file]), (0, made.clone(), String::new()));
    let secret = fs::read_to_string(&file).unwrap();
    assert_eq!(SigningKey::parse(&secret).unwrap().name(), "log.example/audit");
    let (code, out, error) = run(&["keygen", "--out", &file, "--origin", "log.example/audit"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(error.contains("was not touched"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
    let (code, _, error) = run(&["keygen", "--out", &path(folder.path(), "x"), "--origin", "a b"]);
    assert_eq!(code, 2);
    assert!(error.contains("cannot be a base origin"), "{error}");
    assert!(!run(&["public-key", &path(folder.path(), "nothing")]).2.contains("PRIVATE"));
}

#[test]
fn checkpoints_sealed_after_a_given_time_are_left_out() {
    let folder = folder();
    let at = |name| path(folder.path(), name);
    let before = |time: &str| {
        run(&[
            "verify-export",
            &at("export.jsonl"),
            "--key",
            &at("key.pub"),
            "--checkpoint",
            &at("checkpoint"),
            "--before",
            time,
        ])
    };
    let (code, out, _) = before("2026-11-21T00:00:00Z");
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("1 checkpoints were not sealed before"), "{out}");
    assert_eq!(before("2026-11-21T00:00:01Z").0, 2, "it needs its intervals");
    assert_eq!(before("yesterday").0, 2);
}

#[test]
fn the_program_has_nothing_of_postgresql() {
    let program = fs::read(PROGRAM).unwrap();
    for symbol in ["SPI_connect", "PG_exception_stack", "CurrentMemoryContext", "libpq"] {
        assert!(!program.windows(symbol.len()).any(|window| window == symbol.as_bytes()), "{symbol}");
    }
}

/// How far a process has read a file.
fn position(process: &Child, file: &str) -> Option<u64> {
    let process = format!("/proc/{}", process.id());
    let open = fs::read_dir(format!("{process}/fd")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let fd = open.into_iter().find(|fd| fs::read_link(fd).is_ok_and(|to| to == Path::new(file)))?;
    let info = fs::read_to_string(format!("{process}/fdinfo/{}", fd.file_name()?.to_str()?)).ok()?;
    info.lines().next()?.strip_prefix("pos:\t")?.parse().ok()
}

/// Runs the program on `export`, and stops it for more than a second while it reads; what it printed.
fn slowly(export: &str, errors: impl Fn() -> Stdio) -> (i32, String, String) {
    let middle = fs::metadata(export).unwrap().len() / 2;
    loop {
        let mut child = Command::new(PROGRAM);
        let child = child.args(["verify-export", export]).stdout(Stdio::piped()).stderr(errors());
        let mut child = child.spawn().unwrap();
        let pid = Pid::from_child(&child);
        while position(&child, export).is_none_or(|at| at == 0) && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_micros(200));
        }
        let _ = kill_process(pid, Signal::STOP);
        let stopped = position(&child, export).is_some_and(|at| at < middle);
        sleep(Duration::from_millis(1100));
        let _ = kill_process(pid, Signal::CONT);
        let output = child.wait_with_output().unwrap();
        // On a busy machine it may have come to its end meanwhile.
        if stopped {
            return text(output);
        }
    }
}

#[test]
fn a_file_that_takes_more_than_a_second_has_a_bar_on_a_terminal_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut trail = Trail::new("acme");
    trail.append(0, 30_000);
    let export = path(folder.path(), "export.jsonl");
    fs::write(&export, trail.export()).unwrap();
    let verified = format!("verified: {export:?}, 30000 events in 1 chain of 1 tenant\n");
    assert_eq!(slowly(&export, Stdio::piped), (0, verified.clone(), String::new()));

    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let inside = fs::File::options().read(true).write(true).open(name).unwrap();
    tcsetwinsize(&inside, Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let shown = thread::spawn(move || {
        let (mut shown, mut outside) = (Vec::new(), fs::File::from(terminal));
        // The end of a terminal is an error.
        let _ = outside.read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    assert_eq!(slowly(&export, || inside.try_clone().unwrap().into()), (0, verified, String::new()));
    drop(inside);
    let shown = shown.join().unwrap();
    assert!(shown.contains(" MiB of 29.") && shown.contains(" left"), "{shown:?}");
    assert!(shown.ends_with("\u{1b}[2K"), "the line is cleared: {shown:?}");
}
