//! The clocks of this machine, read for the tripwire and for health: the wall clock beside the one that counts from the boot, and
//! what the kernel says of its synchronisation. Judged in the crate `zeroauth-audit-tripwire`. Nothing is set, ever.

use std::ffi::c_int;

use pgrx::pg_sys;
use zeroauth_audit_tripwire::clock::{self, Discipline, Reading};

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::Failure;
use crate::pg::result_rows::{Rows, Value};
use crate::pg::settings;

/// Changes with every boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn microseconds(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local; both clocks are there on every Linux that PostgreSQL 15 runs on.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

/// Both clocks, as near to each other as can be: a process may lose the processor in between.
fn reading() -> Reading {
    let read = || {
        let before = microseconds(libc::CLOCK_BOOTTIME);
        let wall = microseconds(libc::CLOCK_REALTIME);
        let after = microseconds(libc::CLOCK_BOOTTIME);
        (after - before, Reading { wall, since_boot: before + (after - before) / 2 })
    };
    let mut best = read();
    for _ in 0..8 {
        let next = read();
        if next.0 < best.0 {
            best = next;
        }
    }
    best.1
}

/// `None` where the kernel or a container's filter does not say.
fn discipline() -> Option<Discipline> {
    // SAFETY: a structure of numbers, for which zero is a value; with no mode set the call only reads.
    let mut kernel: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let state = unsafe { libc::adjtimex(&mut kernel) };
    if state < 0 {
        return None;
    }
    let unit = if kernel.status & libc::STA_NANO != 0 { 1000 } else { 1 };
    Some(Discipline {
        unsynchronised: state == libc::TIME_ERROR as c_int || kernel.status & libc::STA_UNSYNC != 0,
        offset: kernel.offset / unit,
        estimated_error: kernel.esterror,
        max_error: kernel.maxerror,
    })
}

/// `clock(boot, booted_at)`: see `sql/schema/tripwire/tripwires.sql`.
fn audit_clock(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let mut rows = Rows::start(arguments);
    let now = reading();
    let boot = std::fs::read_to_string(BOOT_ID).ok().map(|id| id.trim().to_owned());
    let allowed = settings::max_clock_error();
    let before = arguments.int8(1).filter(|_| boot.is_some());
    let same_boot = arguments.text(0)? == boot;
    let step = before.filter(|_| same_boot).and_then(|before| clock::step(before, now, allowed));
    let kernel = discipline();
    let reason = kernel.as_ref().and_then(|kernel| clock::unsynchronised(kernel, allowed));
    let number = |number: Option<i64>| number.map_or(Value::Null, Value::Int8);
    rows.push(vec![
        boot.map_or(Value::Null, Value::Text),
        Value::Int8(now.booted_at()),
        number(step),
        kernel.as_ref().map_or(Value::Null, |kernel| Value::Bool(!kernel.unsynchronised)),
        reason.map_or(Value::Null, |reason| Value::Text(reason.to_owned())),
        number(kernel.as_ref().map(|kernel| kernel.offset)),
        number(kernel.as_ref().map(|kernel| kernel.estimated_error)),
        number(kernel.as_ref().map(|kernel| kernel.max_error)),
    ]);
    Ok(pg_sys::Datum::null())
}

sql_function!(zeroauth_audit_clock, pg_finfo_zeroauth_audit_clock, audit_clock);
