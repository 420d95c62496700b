//! What the launcher and the workers have in common as background processes: signals, waiting, and showing what they do.
//!
//! SIGTERM is PostgreSQL's `die`: a running query ends at its next check for interrupts, as in a session. A process that
//! waits sees the same flag, and leaves without an error in the log. SIGHUP reads the configuration again.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{read_volatile, write_volatile};
use std::time::Duration;

use pgrx::pg_sys;

use crate::pg::versions;

// PostgreSQL's signal handlers, passed by address; pgrx's own wrappers could not run in one.
unsafe extern "C-unwind" {
    fn die(signal: c_int);
    fn SignalHandlerForConfigReload(signal: c_int);
}

/// Describes a background process that runs `function` of this library.
pub fn describe(
    name: &str,
    kind: &CStr,
    function: &CStr,
    start: pg_sys::BgWorkerStartTime::Type,
    restart_seconds: Option<c_int>,
) -> pg_sys::BackgroundWorker {
    let mut worker = pg_sys::BackgroundWorker {
        bgw_flags: (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as c_int,
        bgw_start_time: start,
        bgw_restart_time: restart_seconds.unwrap_or(pg_sys::BGW_NEVER_RESTART),
        ..Default::default()
    };
    let name = CString::new(name).unwrap_or_default();
    fill(&mut worker.bgw_name, &name);
    fill(&mut worker.bgw_type, kind);
    fill(&mut worker.bgw_library_name, c"zeroauth_audit");
    fill(&mut worker.bgw_function_name, function);
    worker
}

/// Copies as much of `text` as fits, ended by a NUL.
fn fill(field: &mut [c_char], text: &CStr) {
    let room = field.len() - 1;
    for (to, from) in field.iter_mut().zip(text.to_bytes().iter().take(room)) {
        *to = *from as c_char;
    }
}

/// Installs the signal handlers and lets signals in.
pub fn accept_signals() {
    // SAFETY: PostgreSQL's own handlers, in a background process that has just started.
    unsafe {
        versions::handle_signal(libc::SIGTERM, die);
        versions::handle_signal(libc::SIGHUP, SignalHandlerForConfigReload);
    }
    // A background process begins with SIGHUP ignored, which drops one that came since the fork: a configuration that was reloaded just
    // then would stay unread until the next time. So it is read at the start, whether a signal comes or not.
    // SAFETY: a flag of this process, which a signal handler may set as well.
    unsafe { write_volatile(&raw mut pg_sys::ConfigReloadPending, 1) };
    // SAFETY: as above; everything that a signal looks at is set up.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
}

/// Whether SIGTERM came.
pub fn dying() -> bool {
    // SAFETY: a flag that a signal handler of this process sets.
    unsafe { read_volatile(&raw const pg_sys::ProcDiePending) != 0 }
}

/// Reads the configuration again if SIGHUP came; whether it did.
pub fn reload_if_asked() -> bool {
    // SAFETY: a flag that a signal handler of this process sets.
    if unsafe { read_volatile(&raw const pg_sys::ConfigReloadPending) } == 0 {
        return false;
    }
    // SAFETY: as above; cleared before reading, so that a signal in between counts.
    unsafe { write_volatile(&raw mut pg_sys::ConfigReloadPending, 0) };
    // SAFETY: outside of a transaction, as every process of the server does it.
    unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    true
}

/// Waits for the latch, for at most `longest` (`None`: for ever). Whether the latch was set.
pub fn wait(longest: Option<Duration>) -> bool {
    wait_also_for(pg_sys::PGINVALID_SOCKET, longest)
}

/// As [`wait`], or until `descriptor` is readable.
pub fn wait_also_for(descriptor: c_int, longest: Option<Duration>) -> bool {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH;
    let timeout = longest.map_or(-1, |longest| {
        events |= pg_sys::WL_TIMEOUT;
        // Rounded up: woken a moment too early it would only wait again.
        i64::try_from(longest.as_millis()).map_or(i64::from(i32::MAX), |ms| (ms + 1).min(i64::from(i32::MAX)))
    });
    if descriptor != pg_sys::PGINVALID_SOCKET {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    let event = crate::pg::versions::wait_event();
    // SAFETY: the process's own latch, set up at its start, and a descriptor that its owner keeps open.
    let happened = unsafe {
        pg_sys::WaitLatchOrSocket(pg_sys::MyLatch, events as c_int, descriptor, timeout as _, event)
    };
    // SAFETY: as above.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    if !dying() {
        // Barriers and catalog messages are handled here; a SIGTERM is handled by the caller, in good order.
        pgrx::check_for_interrupts!();
    }
    happened as u32 & pg_sys::WL_LATCH_SET != 0
}

/// Several descriptors as one, readable when one of them is.
pub struct Wake(OwnedFd);

impl Wake {
    /// Of descriptors that live as long as it.
    pub fn of(descriptors: &[RawFd]) -> io::Result<Self> {
        // SAFETY: makes a descriptor, or returns -1.
        let made = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and not shared.
        let wake = unsafe { OwnedFd::from_raw_fd(made) };
        for &descriptor in descriptors {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            // SAFETY: both are open; the event is copied.
            let added =
                unsafe { libc::epoll_ctl(wake.as_raw_fd(), libc::EPOLL_CTL_ADD, descriptor, &mut event) };
            if added < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self(wake))
    }

    /// For [`wait_also_for`].
    pub fn descriptor(&self) -> c_int {
        self.0.as_raw_fd()
    }
}

/// Shows in pg_stat_activity what this process does.
pub fn show(busy: bool, what: &str) {
    let what = CString::new(what).unwrap_or_default();
    let state = if busy { pg_sys::BackendState::STATE_RUNNING } else { pg_sys::BackendState::STATE_IDLE };
    // SAFETY: copies a NUL-terminated string into this process's own status.
    unsafe { pg_sys::pgstat_report_activity(state, what.as_ptr()) };
}

/// Sets a parameter for this process, over the settings of the database and the role.
pub fn set_parameter(name: &CStr, value: &CStr) {
    // SAFETY: NUL-terminated names and values of parameters that there are.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Ends the process. Code 1 has the server restart a process that is registered for it, and 0 never.
pub fn leave(code: c_int) -> ! {
    // SAFETY: outside of any lock; runs the exit callbacks.
    unsafe { versions::proc_exit(code) }
}
