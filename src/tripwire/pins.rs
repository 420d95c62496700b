//! Pinned files: compared with their digests when the server starts, and whenever the job `pins` asks. What the setting says, and
//! what the digest of a folder is, is decided in the crate `zeroauth-audit-tripwire`.
//!
//! The board in shared memory is what health reads: it is written by the postmaster before any other process is there, and by
//! the process that runs the job, under its lock, which is never held while a file is read.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pgrx::{AssertPGRXSharedMemory, PgLwLock, pg_guard, pg_sys};
use zeroauth_audit_tripwire::Hasher;
use zeroauth_audit_tripwire::pins::{self, Pin};

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind, refuse_to_start};
use crate::pg::result_rows::{Rows, Value};
use crate::pg::settings;
use crate::pg::shmem;
use crate::pg::time::now;

/// Bytes that are read at once: between two reads a session can be cancelled.
const PIECE: usize = 1 << 20;

/// The pins, as the server started with them. The other processes are forked with it.
static PINS: OnceLock<Vec<Pin>> = OnceLock::new();
/// Which were wrong then.
static WRONG_AT_START: OnceLock<u64> = OnceLock::new();

struct Board {
    /// A bit for each pin that was wrong when last looked at.
    wrong: u64,
    checked_at: i64,
}

// SAFETY: named once, initialised by pg_shmem_init! below; the board has no pointers and a fixed layout.
static BOARD: PgLwLock<AssertPGRXSharedMemory<Board>> = unsafe { PgLwLock::new(c"zeroauth_audit_pins") };

/// Requests the shared memory. To be called while the server loads the library, after [`check_at_start`].
pub fn request_shared_memory() {
    pgrx::pg_shmem_init!(BOARD = board_at_start());
}

fn board_at_start() -> AssertPGRXSharedMemory<Board> {
    let board = Board { wrong: WRONG_AT_START.get().copied().unwrap_or(0), checked_at: now() };
    // SAFETY: a board has no pointers and a fixed layout.
    unsafe { AssertPGRXSharedMemory::new(board) }
}

/// The result of checking one pin.
enum PinResult {
    Same,
    Other(String),
    Problem(String),
}

/// Reads the setting and looks at every pin. The server does not start with a setting that cannot be read, nor, if
/// `zeroauth_audit.pin_failure` says so, with a pin that is wrong. To be called once, while the server loads the library.
pub fn check_at_start() {
    let setting = settings::pinned_files();
    let pins = match pins::parse(&setting) {
        Ok(pins) => pins,
        Err(error) => refuse_to_start(
            Failure::new(Kind::BadPins, format!("zeroauth_audit.pinned_files cannot be read: {error}"))
                .hint("It is a list of /absolute/path=sha256, separated by commas; a path with a comma in it is put in double quotes."),
        ),
    };
    let on_failure = settings::pin_failure().unwrap_or_else(|value| {
        refuse_to_start(
            Failure::new(
                Kind::BadPins,
                format!("zeroauth_audit.pin_failure is \"{value}\", neither refuse nor alert"),
            )
            .hint(
                "refuse: the server does not start with a wrong pin; alert: it does, and an alert is raised.",
            ),
        )
    });
    let mut wrong = 0;
    for (n, pin) in pins.iter().enumerate() {
        let Some(message) = (match look(pin, || {}) {
            PinResult::Same => None,
            PinResult::Other(digest) => Some(format!(
                "pinned file \"{}\" is not what it was: expected SHA-256 {}, found {digest}",
                pin.path, pin.digest
            )),
            PinResult::Problem(problem) => Some(format!(
                "pinned file \"{}\" cannot be read: {problem}; expected SHA-256 {}",
                pin.path, pin.digest
            )),
        }) else {
            continue;
        };
        wrong |= 1u64 << n;
        if on_failure == settings::PinFailure::Refuse {
            refuse_to_start(Failure::new(Kind::PinMismatch, message).hint(
                "Find out who changed the file and restore it, or correct zeroauth_audit.pinned_files. With zeroauth_audit.pin_failure = alert the server starts all the same.",
            ));
        }
        pgrx::warning!("{message}");
    }
    let _ = (PINS.set(pins), WRONG_AT_START.set(wrong));
}

fn look(pin: &Pin, interrupt: impl Fn()) -> PinResult {
    match digest(Path::new(&pin.path), &interrupt) {
        Ok(digest) if digest == pin.digest => PinResult::Same,
        Ok(digest) => PinResult::Other(digest),
        Err(error) => PinResult::Problem(error.to_string()),
    }
}

fn digest(path: &Path, interrupt: &impl Fn()) -> io::Result<String> {
    let kind = fs::metadata(path)?;
    if kind.is_file() {
        return file_digest(path, interrupt);
    }
    if !kind.is_dir() {
        return Err(io::Error::other("neither a file nor a folder"));
    }
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(".")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(path.join(&folder))? {
            let entry = entry?;
            let (name, kind) = (folder.join(entry.file_name()), entry.file_type()?);
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_file() {
                let digest = file_digest(&entry.path(), interrupt)?;
                files.push((name.into_os_string().into_vec(), digest));
            } else {
                // A link could lead out of the folder, and would then be pinned by its name alone.
                let name = String::from_utf8_lossy(name.as_os_str().as_bytes()).into_owned();
                return Err(io::Error::other(format!(
                    "it holds {name}, which is neither a file nor a folder"
                )));
            }
        }
    }
    Ok(pins::folder_digest(files))
}

fn file_digest(path: &Path, interrupt: &impl Fn()) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let mut hasher = Hasher::default();
    loop {
        interrupt();
        match file.read(&mut piece)? {
            0 => return Ok(hasher.hex()),
            read => hasher.update(&piece[..read]),
        }
    }
}

fn pins() -> &'static [Pin] {
    PINS.get().map_or(&[], Vec::as_slice)
}

/// `audit_verify_pins()`: looks at every pin now; one row each.
fn audit_check_pins(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let mut rows = Rows::start(arguments);
    if !shmem::is_shared() {
        return Ok(pg_sys::Datum::null());
    }
    let mut wrong = 0;
    for (n, pin) in pins().iter().enumerate() {
        let (found, problem) = match look(pin, || {
            pgrx::check_for_interrupts!();
        }) {
            PinResult::Same => (Value::Text(pin.digest.clone()), Value::Null),
            PinResult::Other(digest) => {
                wrong |= 1u64 << n;
                (Value::Text(digest), Value::Text("changed".to_owned()))
            }
            PinResult::Problem(problem) => {
                wrong |= 1u64 << n;
                (Value::Null, Value::Text(problem))
            }
        };
        rows.push(vec![
            Value::Text(pin.path.clone()),
            Value::Bool(matches!(problem, Value::Null)),
            problem,
            Value::Text(pin.digest.clone()),
            found,
        ]);
    }
    let at = now();
    let mut board = BOARD.exclusive();
    (board.wrong, board.checked_at) = (wrong, at);
    Ok(pg_sys::Datum::null())
}

/// `pin_status()`: how many pins there are, and how many were wrong when last looked at; one row.
fn audit_pin_status(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let mut rows = Rows::start(arguments);
    if !shmem::is_shared() {
        return Ok(pg_sys::Datum::null());
    }
    let (wrong, checked_at) = {
        let board = BOARD.share();
        (board.wrong, board.checked_at)
    };
    rows.push(vec![
        Value::Int4(pins().len() as i32),
        Value::Int4(wrong.count_ones() as i32),
        Value::Int8(checked_at),
    ]);
    Ok(pg_sys::Datum::null())
}

sql_function!(zeroauth_audit_check_pins, pg_finfo_zeroauth_audit_check_pins, audit_check_pins);
sql_function!(zeroauth_audit_pin_status, pg_finfo_zeroauth_audit_pin_status, audit_pin_status);
