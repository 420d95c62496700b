//! The settings `zeroauth_audit.*`. `docs/settings.md` documents each under its own heading.

use std::ffi::{CString, c_void};

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};

static MAX_CHAINS: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_DETAILS_BYTES: GucSetting<i32> = GucSetting::<i32>::new(1024 * 1024);
static ESCALATE_2_AFTER: GucSetting<i32> = GucSetting::<i32>::new(5 * 60);
static ESCALATE_3_AFTER: GucSetting<i32> = GucSetting::<i32>::new(15 * 60);
static ESCALATE_4_AFTER: GucSetting<i32> = GucSetting::<i32>::new(60 * 60);
static DRIFT_ROWS: GucSetting<i32> = GucSetting::<i32>::new(1000);
static FULL_REPLAY_PERIOD: GucSetting<i32> = GucSetting::<i32>::new(7 * 24 * 3600);
static REPLAY_LOAD: GucSetting<i32> = GucSetting::<i32>::new(10);
static CHECKPOINT_KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static ANCHOR_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static RUNBOOK_URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static WORKER: GucSetting<bool> = GucSetting::<bool>::new(true);
static VERIFY_ON_STANDBY: GucSetting<bool> = GucSetting::<bool>::new(false);
static MAINTENANCE: GucSetting<bool> = GucSetting::<bool>::new(false);
static MAX_CLOCK_ERROR: GucSetting<i32> = GucSetting::<i32>::new(100);
static PINNED_FILES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
// Not an enum setting: PostgreSQL starts with the default when it does not know a value, and a misspelt `refuse` would refuse nothing.
static PIN_FAILURE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"alert"));

/// What happens at the start of the server when a pinned file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinFailure {
    /// The server does not start.
    Refuse,
    /// The server starts, and an alert is raised.
    Alert,
}

/// This many events are recomputed in a fraction of a second, so in one transaction.
const MOST_DRIFT_ROWS: i32 = 100_000;
/// Chain numbers are `smallint`.
const MOST_CHAINS: i32 = i16::MAX as i32;

/// How many chains a tenant may have; `None` is as many as there are concurrent transactions.
pub fn max_chains() -> Option<u16> {
    u16::try_from(MAX_CHAINS.get()).ok().filter(|&n| n > 0)
}

/// The longest `details` accepted, in bytes of its text form.
pub fn max_details_bytes() -> usize {
    usize::try_from(MAX_DETAILS_BYTES.get()).unwrap_or(0)
}

/// The file with the key that signs checkpoints; empty for none.
pub fn checkpoint_key_file() -> String {
    CHECKPOINT_KEY_FILE.get().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The anchor file of targets that name none; empty for the one below the data directory.
pub fn anchor_file() -> String {
    ANCHOR_FILE.get().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether the server has a launcher and workers.
pub fn worker() -> bool {
    WORKER.get()
}

/// Whether a hot standby has workers too, which only verify.
pub fn verify_on_standby() -> bool {
    VERIFY_ON_STANDBY.get()
}

/// How wrong the clock may be, in milliseconds; negative: its synchronisation is not looked at.
pub fn max_clock_error() -> i32 {
    MAX_CLOCK_ERROR.get()
}

/// The pins, as they were written.
pub fn pinned_files() -> String {
    PINNED_FILES.get().unwrap_or_default().to_string_lossy().into_owned()
}

/// What happens when a pin is wrong at the start of the server; `Err` with the value that says neither.
pub fn pin_failure() -> Result<PinFailure, String> {
    let value = PIN_FAILURE.get().unwrap_or_default().to_string_lossy().trim().to_ascii_lowercase();
    match value.as_str() {
        "refuse" => Ok(PinFailure::Refuse),
        "alert" => Ok(PinFailure::Alert),
        _ => Err(value),
    }
}

/// Whether a superuser has opened the trail for maintenance in this session, and is still the one who acts: the setting
/// alone could come from ALTER DATABASE, or outlive a SET ROLE.
pub fn maintenance() -> bool {
    // SAFETY: looks at the current role of this process.
    MAINTENANCE.get() && unsafe { pg_sys::superuser() }
}

/// Whether who is logged in could open it: only those are told how.
pub fn may_open_maintenance() -> bool {
    // SAFETY: look at the roles of this process.
    unsafe { pg_sys::superuser() && pg_sys::superuser_arg(pg_sys::GetSessionUserId()) }
}

/// Called by PostgreSQL when `zeroauth_audit.maintenance` gets a value.
pub type MaintenanceAssigned = unsafe extern "C-unwind" fn(on: bool, extra: *mut c_void);

/// Defines the settings and reserves their prefix.
///
/// # Safety
/// `on_maintenance` must raise nothing.
pub unsafe fn define(on_maintenance: MaintenanceAssigned) {
    GucRegistry::define_int_guc(
        c"zeroauth_audit.max_chains",
        c"Most chains a tenant may have.",
        c"0 is as many as there are concurrent transactions, and no insert waits; 1 is one strict order per tenant, and inserts of one tenant wait for each other.",
        &MAX_CHAINS,
        0,
        MOST_CHAINS,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"zeroauth_audit.max_details_bytes",
        c"Longest details of one event, in bytes of its text form.",
        c"An event with longer details is refused.",
        &MAX_DETAILS_BYTES,
        0,
        1024 * 1024 * 1024 - 1,
        GucContext::Suset,
        GucFlags::UNIT_BYTE,
    );
    // SAFETY: the hook raises nothing, by contract.
    unsafe {
        GucRegistry::define_bool_guc_with_hooks(
            c"zeroauth_audit.maintenance",
            c"Lets changes of audit_events through that are refused otherwise.",
            c"Every change that it lets through is logged, and found by the next replay.",
            &MAINTENANCE,
            GucContext::Suset,
            GucFlags::default(),
            None,
            Some(on_maintenance),
            None,
        );
    }
    GucRegistry::define_int_guc(
        c"zeroauth_audit.max_clock_error",
        c"How wrong the server's clock may be.",
        c"-1 does not look whether it is synchronised; steps of more than a second are noted all the same.",
        &MAX_CLOCK_ERROR,
        -1,
        60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    // Read through SQL, by the function that escalates.
    for (name, summary, setting) in [
        (
            c"zeroauth_audit.escalate_2_after",
            c"Age at which an unacknowledged severity-1 alert reaches level 2.",
            &ESCALATE_2_AFTER,
        ),
        (
            c"zeroauth_audit.escalate_3_after",
            c"Age at which an unacknowledged severity-1 alert reaches level 3.",
            &ESCALATE_3_AFTER,
        ),
        (
            c"zeroauth_audit.escalate_4_after",
            c"Age at which an unacknowledged severity-1 alert reaches level 4.",
            &ESCALATE_4_AFTER,
        ),
    ] {
        GucRegistry::define_int_guc(
            name,
            summary,
            c"-1 leaves the level out.",
            setting,
            -1,
            i32::MAX,
            GucContext::Sighup,
            GucFlags::UNIT_S,
        );
    }
    // Read through SQL, when an alert is announced.
    GucRegistry::define_string_guc(
        c"zeroauth_audit.runbook_url",
        c"Page that alerts point to, with %s for the kind of the alert.",
        c"Without %s the kind is added at its end. Empty: the heading in docs/runbook.md.",
        &RUNBOOK_URL,
        GucContext::Sighup,
        GucFlags::default(),
    );
    define_of_drift();
    GucRegistry::define_string_guc(
        c"zeroauth_audit.checkpoint_key_file",
        c"File with the Ed25519 key that signs the checkpoints of this database.",
        c"Made by zeroauth-audit keygen; mode 0600, outside the data directory, of the server's user or root. Empty: nothing is signed.",
        &CHECKPOINT_KEY_FILE,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"zeroauth_audit.anchor_file",
        c"File that anchors of this database are added to, by targets of driver file that name none.",
        c"Best on storage that only appends, or on another machine. Empty: zeroauth_audit_anchors/ and the database's oid, below the data directory.",
        &ANCHOR_FILE,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    define_of_the_server();
    // SAFETY: called from _PG_init with a NUL-terminated name; refuses misspelt settings under our prefix.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"zeroauth_audit".as_ptr()) };
}

/// Read through SQL, by the job drift.
fn define_of_drift() {
    GucRegistry::define_int_guc(
        c"zeroauth_audit.drift_rows",
        c"Newest events of each tenant that every run of the job drift recomputes.",
        c"tenants.drift_rows is another number for one tenant.",
        &DRIFT_ROWS,
        1,
        MOST_DRIFT_ROWS,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"zeroauth_audit.full_replay_period",
        c"Time in which the job drift recomputes all history.",
        c"Each run takes the part of it that is due until the next run.",
        &FULL_REPLAY_PERIOD,
        60,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"zeroauth_audit.replay_load",
        c"Share of one processor core that the job drift may use while it runs, in percent.",
        c"It pauses between its steps; 100 is no pause.",
        &REPLAY_LOAD,
        1,
        100,
        GucContext::Sighup,
        GucFlags::default(),
    );
}

/// Settings that are fixed when the server starts; not defined in a library that one session loaded.
fn define_of_the_server() {
    // SAFETY: set by PostgreSQL around the loading of the libraries.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    GucRegistry::define_bool_guc(
        c"zeroauth_audit.worker",
        c"Starts a background worker for every database that has the extension.",
        c"Without it no job runs by itself.",
        &WORKER,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"zeroauth_audit.verify_on_standby",
        c"Starts workers on a hot standby too, which only verify.",
        c"What they find is in the server log of the standby.",
        &VERIFY_ON_STANDBY,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"zeroauth_audit.pinned_files",
        c"Files and folders, and the SHA-256 that each must have.",
        c"A list of /absolute/path=sha256, separated by commas. Looked at when the server starts, and by the job pins.",
        &PINNED_FILES,
        GucContext::Postmaster,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"zeroauth_audit.pin_failure",
        c"Whether the server starts when a pinned file is not what it was.",
        c"refuse: it does not; alert: it does, and an alert is raised.",
        &PIN_FAILURE,
        GucContext::Postmaster,
        GucFlags::default(),
    );
}
