//! Monitors: run files as they come, and as somebody changes them behind the monitor's back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use zeroauth_audit_core::note::{Algorithm, Note, SigningKey};
use zeroauth_audit_core::trust::Trust;
use zeroauth_audit_test_servers::Server;
use zeroauth_audit_verifier::monitor::Monitor;
use zeroauth_audit_verifier::runs::Demands;
use zeroauth_audit_verifier::verdict::{Outcome, Verdict};

use super::runs::{history, trust};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zeroauth-audit");

/// Writes the files with these numbers.
pub fn publish(folder: &Path, history: &Value, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let files = history["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["number"] == number).unwrap();
        let day = folder.join(file["day"].as_str().unwrap());
        fs::create_dir_all(&day).unwrap();
        fs::write(day.join(format!("{number:012}.run")), file["text"].as_str().unwrap()).unwrap();
    }
}

fn class(verdict: &Verdict) -> Vec<&str> {
    verdict.findings.iter().map(|finding| finding.class).collect()
}

struct Watched {
    folder: tempfile::TempDir,
    own: tempfile::TempDir,
    trust: Trust,
}

impl Watched {
    fn new(history: &Value) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            own: tempfile::tempdir().unwrap(),
            trust: trust(history),
        }
    }

    fn monitor(&self, max_silence: Option<u64>) -> Monitor<'_> {
        let demands = Demands { max_silence, ..Demands::default() };
        Monitor::new(self.folder.path(), &self.trust, demands, Some(self.own.path().join("state")))
    }
}

#[test]
fn files_are_read_as_they_come_and_each_once() {
    let history = history("growth_and_silence");
    let last = history["files"].as_array().unwrap().len() as u64;
    let watched = Watched::new(&history);
    let mut monitor = watched.monitor(None);
    assert_eq!(monitor.round(1).verdict.verdict, Outcome::CouldNotCheck, "nothing is there yet");
    let mut seen = Vec::new();
    for number in 1..=last {
        publish(watched.folder.path(), &history, [number]);
        let round = monitor.round(1);
        assert_eq!(round.verdict.verdict, Outcome::Verified, "{}", round.verdict.text());
        seen.push(round.checkpoint.unwrap());
        // What was read is not read again.
        for year in fs::read_dir(watched.folder.path()).unwrap() {
            fs::remove_dir_all(year.unwrap().path()).unwrap();
        }
    }
    seen.dedup();
    assert_eq!(seen.len() as u64, last, "each file has a checkpoint of its own");
    assert_eq!(fs::read_to_string(watched.own.path().join("state")).unwrap(), seen[seen.len() - 1]);
}

#[test]
fn a_number_that_is_late_is_waited_for_and_one_that_stays_away_is_told() {
    let history = history("growth_and_silence");
    let watched = Watched::new(&history);
    publish(watched.folder.path(), &history, [1, 3]);
    let mut monitor = watched.monitor(None);
    let first = monitor.round(1);
    assert_eq!(first.verdict.verdict, Outcome::Verified, "{}", first.verdict.text());
    publish(watched.folder.path(), &history, [2]);
    let second = monitor.round(1);
    assert_eq!(second.verdict.verdict, Outcome::Verified, "{}", second.verdict.text());
    assert_ne!(first.checkpoint, second.checkpoint);

    let watched = Watched::new(&history);
    publish(watched.folder.path(), &history, [1, 3]);
    let mut monitor = watched.monitor(None);
    let outcomes: Vec<Outcome> = (0..4).map(|_| monitor.round(1).verdict.verdict).collect();
    let (verified, unknown) = (Outcome::Verified, Outcome::CouldNotCheck);
    assert_eq!(outcomes, [verified, verified, unknown, unknown]);
}

#[test]
fn silence_is_told_and_ends_with_the_next_file() {
    let history = history("growth_and_silence");
    let watched = Watched::new(&history);
    publish(watched.folder.path(), &history, [1]);
    let mut monitor = watched.monitor(Some(600));
    let text = history["files"][0]["text"].as_str().unwrap();
    let sealed = sealed_at(text);
    assert_eq!(monitor.round(sealed + 600).verdict.verdict, Outcome::Verified);
    let silent = monitor.round(sealed + 601).verdict;
    assert_eq!(silent.verdict, Outcome::CouldNotCheck);
    assert!(
        silent.text().contains("nothing was published for 601 s, which is longer than 600 s"),
        "{}",
        silent.text()
    );
    publish(watched.folder.path(), &history, [2]);
    assert_eq!(monitor.round(sealed + 601).verdict.verdict, Outcome::Verified);
}

/// When the checkpoint of a run file was sealed.
fn sealed_at(text: &str) -> u64 {
    let vectors = super::runs::vectors();
    let key = zeroauth_audit_core::note::VerifierKey::parse(vectors["vkey"].as_str().unwrap()).unwrap();
    let note =
        text.rsplit_once("checkpoint ").unwrap().1.split_once('\n').unwrap().1.strip_suffix("end\n").unwrap();
    let timed = key.renamed(key.name(), Algorithm::CosignatureV1);
    Note::parse(note.as_bytes()).unwrap().verify(&[timed]).unwrap()[0].time.unwrap()
}

#[test]
fn red_team_a6_a_directory_that_is_replaced_as_a_whole_is_told_by_what_was_verified_before() {
    // Both by the holder of the key, and each whole in itself.
    let (true_one, other) = (history("growth_and_silence"), history("powers_of_two"));
    let watched = Watched::new(&true_one);
    let last = true_one["files"].as_array().unwrap().len() as u64;
    publish(watched.folder.path(), &true_one, 1..=last);
    assert_eq!(watched.monitor(None).round(1).verdict.verdict, Outcome::Verified);
    // A restart finds the same.
    assert_eq!(watched.monitor(None).round(1).verdict.verdict, Outcome::Verified);
    // Cut back: everything that is left fits together.
    for number in 2..=last {
        let file = format!("{number:012}.run");
        for day in true_one["files"].as_array().unwrap().iter().map(|file| file["day"].as_str().unwrap()) {
            let _ = fs::remove_file(watched.folder.path().join(day).join(&file));
        }
    }
    let cut = watched.monitor(None).round(1);
    assert_eq!(class(&cut.verdict), ["tail_truncated"], "{}", cut.verdict.text());
    // Rewritten from the beginning.
    fs::remove_dir_all(watched.folder.path()).unwrap();
    publish(watched.folder.path(), &other, 1..=other["files"].as_array().unwrap().len() as u64);
    let mut monitor = watched.monitor(None);
    let rewritten = monitor.round(1);
    assert_eq!(rewritten.verdict.verdict, Outcome::Tampered, "{}", rewritten.verdict.text());
    // It stays so, and what was verified before stays what it remembers.
    assert_eq!(monitor.round(1).verdict.verdict, Outcome::Tampered);
    assert_eq!(watched.monitor(None).round(1).verdict.verdict, Outcome::Tampered);
}

/// Runs the program once: exit code and output.
fn once(watched: &Watched, history: &Value, more: &[&str]) -> (i32, String) {
    let mut program = Command::new(PROGRAM);
    program.args(["monitor", "--once", "--key", history["vkeys"][0].as_str().unwrap()]).args(more);
    let output = program.arg(watched.folder.path()).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn what_was_verified_is_signed_counted_and_told_and_nothing_else_is() {
    let good = history("growth_and_silence");
    let watched = Watched::new(&good);
    publish(watched.folder.path(), &good, [1, 2]);
    let own = |name: &str| watched.own.path().join(name).display().to_string();
    let key = SigningKey::from_seed("monitor.example", &[5; 32]).unwrap();
    fs::write(own("key"), key.to_key_file()).unwrap();
    let server = Server::status("200 OK");
    fs::write(own("url"), format!("http://{}/h00k?t0ken=1\n", server.address)).unwrap();
    fs::set_permissions(own("url"), fs::Permissions::from_mode(0o600)).unwrap();
    let (cosigner, cosigned, metrics, url) = (own("key"), own("cosigned"), own("metrics"), own("url"));
    let more =
        ["--cosigner", &cosigner, "--cosigned", &cosigned, "--metrics", &metrics, "--webhook-file", &url];
    let (code, output) = once(&watched, &good, &more);
    assert_eq!(code, 2, "others can read the key: {output}");
    assert!(output.contains("its mode must be 0600"), "{output}");
    fs::set_permissions(own("key"), fs::Permissions::from_mode(0o600)).unwrap();

    let (code, output) = once(&watched, &good, &more);
    assert_eq!(code, 0, "{output}");
    let note = fs::read(&cosigned).unwrap();
    let public = key.verifier_key().renamed(key.name(), Algorithm::CosignatureV1);
    assert!(Note::parse(&note).unwrap().verify(&[public]).unwrap()[0].time.is_some());
    let numbers = fs::read_to_string(&metrics).unwrap();
    for line in
        ["zeroauth_monitor_outcome 0\n", "zeroauth_monitor_run 2\n", "# TYPE zeroauth_monitor_logs gauge\n"]
    {
        assert!(numbers.contains(line), "{line:?} in {numbers}");
    }
    let told = server.requests();
    assert_eq!(told.len(), 1);
    let verdict: Value = serde_json::from_slice(&told[0].body).unwrap();
    assert_eq!(verdict["verdict"], "verified");

    // Somebody shrinks a log: the monitor ends with it, tells it, and signs nothing.
    let bad = history("a_log_shrinks");
    fs::remove_dir_all(watched.folder.path()).unwrap();
    publish(watched.folder.path(), &bad, 1..=bad["files"].as_array().unwrap().len() as u64);
    fs::remove_file(&cosigned).unwrap();
    let (code, output) = once(&watched, &bad, &more);
    assert_eq!(code, 1, "{output}");
    assert!(output.starts_with("tampered"), "{output}");
    assert!(!Path::new(&cosigned).exists());
    let numbers = fs::read_to_string(&metrics).unwrap();
    assert!(numbers.contains("zeroauth_monitor_findings{class=\"tail_truncated\"} 1\n"), "{numbers}");
    assert!(!output.contains("t0ken"), "{output}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn the_key_of_the_registry_does_not_sign_as_a_monitor() {
    let good = history("growth_and_silence");
    let watched = Watched::new(&good);
    publish(watched.folder.path(), &good, [1]);
    let own = |name: &str| watched.own.path().join(name).display().to_string();
    let origin = super::runs::vectors()["origin"].as_str().unwrap().to_owned();
    fs::write(own("key"), SigningKey::from_seed(&origin, &[5; 32]).unwrap().to_key_file()).unwrap();
    fs::set_permissions(own("key"), fs::Permissions::from_mode(0o600)).unwrap();
    let (code, output) = once(&watched, &good, &["--cosigner", &own("key"), "--cosigned", &own("cosigned")]);
    assert_eq!(code, 2, "{output}");
    assert!(output.contains("the key of a monitor has another name than the registry"), "{output}");
}

#[test]
fn the_numbers_are_in_the_text_format() {
    let good = history("growth_and_silence");
    let watched = Watched::new(&good);
    publish(watched.folder.path(), &good, [1]);
    let mut monitor = watched.monitor(None);
    let round = monitor.round(7);
    let numbers = monitor.metrics(&round, 7);
    // HELP and TYPE before each name, once; every line ends.
    assert!(numbers.ends_with('\n'));
    for name in numbers.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = name.strip_suffix(" gauge").unwrap();
        assert_eq!(numbers.matches(&format!("# HELP {name} ")).count(), 1, "{name}");
    }
    for line in numbers.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn a_kept_checkpoint_is_one_of_the_registry_s_states_or_tells_who_rewrote_it() {
    let (true_one, other) = (history("growth_and_silence"), history("powers_of_two"));
    let watched = Watched::new(&true_one);
    let kept = watched.own.path().join("kept").display().to_string();
    publish(watched.folder.path(), &true_one, 1..=3);
    let note = watched.monitor(None).round(1).checkpoint.unwrap();
    fs::write(&kept, note).unwrap();
    let verified = |folder: &Path| {
        let mut program = Command::new(PROGRAM);
        program.args([
            "verify-checkpoints",
            "--key",
            true_one["vkeys"][0].as_str().unwrap(),
            "--kept",
            &kept,
        ]);
        let output = program.arg(folder).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    publish(watched.folder.path(), &true_one, 4..=7);
    let (code, output) = verified(watched.folder.path());
    assert_eq!(code, 0, "{output}");
    let rewritten = tempfile::tempdir().unwrap();
    publish(rewritten.path(), &other, 1..=other["files"].as_array().unwrap().len() as u64);
    let (code, output) = verified(rewritten.path());
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("kept checkpoint"), "{output}");
    // Nothing to compare with is not the same as verified.
    let (code, output) = verified(tempfile::tempdir().unwrap().path());
    assert_eq!(code, 2, "{output}");
}
