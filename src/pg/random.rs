//! Random bytes, from PostgreSQL's cryptographic source, and UUIDs made of them.

use std::cell::RefCell;

use pgrx::pg_sys;

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::Failure;
use crate::pg::time;

/// Bytes drawn at once: the system call costs more than the bytes.
const BATCH: usize = 1024;

struct Pool {
    bytes: [u8; BATCH],
    used: usize,
}

thread_local! {
    // Filled by the backend itself, so never shared with another: the postmaster draws nothing before it forks.
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; BATCH], used: BATCH }) };
}

/// `N` random bytes, each handed out once and wiped.
pub fn bytes<const N: usize>() -> [u8; N] {
    POOL.with_borrow_mut(|pool| {
        if pool.used + N > BATCH {
            // SAFETY: the buffer has BATCH bytes.
            let filled = unsafe { pg_sys::pg_strong_random(pool.bytes.as_mut_ptr().cast(), BATCH) };
            if !filled {
                pgrx::error!("could not generate random bytes");
            }
            pool.used = 0;
        }
        let mut out = [0; N];
        let taken = &mut pool.bytes[pool.used..pool.used + N];
        out.copy_from_slice(taken);
        taken.fill(0);
        pool.used += N;
        out
    })
}

/// A UUID of version 7 (RFC 9562): 48 bits of Unix milliseconds, then random bits.
pub fn uuid_v7(unix_micros: i64) -> [u8; 16] {
    let mut uuid: [u8; 16] = bytes();
    let millis = (unix_micros / 1000).max(0).to_be_bytes();
    uuid[..6].copy_from_slice(&millis[2..]);
    uuid[6] = 0x70 | (uuid[6] & 0x0f);
    uuid[8] = 0x80 | (uuid[8] & 0x3f);
    uuid
}

fn audit_uuid_v7(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    let uuid = uuid_v7(now + time::EPOCH);
    // SAFETY: 16 bytes of the current memory context, filled at once.
    let out = unsafe { pg_sys::palloc(16) }.cast::<[u8; 16]>();
    // SAFETY: just allocated, of that size; bytes need no alignment.
    unsafe { out.write(uuid) };
    Ok(pg_sys::Datum::from(out))
}

sql_function!(zeroauth_audit_uuid_v7, pg_finfo_zeroauth_audit_uuid_v7, audit_uuid_v7);
