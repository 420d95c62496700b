//! Whether what runs now is a function of the extension, or a transaction of its worker, and not a statement that somebody typed or a
//! trigger of theirs: the tables of the internal schema are written by nothing else.
//!
//! Every function of ours that writes is SECURITY DEFINER or has settings of its own, so PostgreSQL calls `fmgr_hook` when it begins and
//! when it ends, also by an error. A frame remembers how deep in triggers it began: a user's trigger that fires inside is deeper.

use std::cell::RefCell;

use pgrx::pg_sys;

thread_local!(static FRAMES: RefCell<Vec<(pg_sys::Oid, i32)>> = const { RefCell::new(Vec::new()) });

/// A transaction of the worker, which is no function.
pub const WORKER: pg_sys::Oid = pg_sys::Oid::INVALID;

/// One of ours begins.
pub fn begin(function: pg_sys::Oid) {
    let depth = trigger_depth();
    FRAMES.with_borrow_mut(|frames| frames.push((function, depth)));
}

/// A function has ended, one way or the other; if it was none of ours, it is not the last that began. Raises nothing.
pub fn end(function: pg_sys::Oid) {
    FRAMES.with_borrow_mut(|frames| {
        if frames.last().is_some_and(|(last, _)| *last == function) {
            frames.pop();
        }
    });
}

/// Whether what runs now is run by one of ours itself.
pub fn running() -> bool {
    FRAMES.with_borrow(|frames| frames.last().copied()).is_some_and(|(_, began)| began == trigger_depth())
}

fn trigger_depth() -> i32 {
    // SAFETY: looks at nothing but a variable of trigger.c; raises nothing.
    unsafe { pg_trigger_depth(std::ptr::null_mut()) }.value() as i32
}

// Without pgrx's guard: it cannot raise, and is called where nothing may be caught.
unsafe extern "C-unwind" {
    fn pg_trigger_depth(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
}
