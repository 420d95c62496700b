//! The two hashes as SQL functions, so that a DBA can recompute one event by hand.

use pgrx::pg_sys;

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::varlena;
use crate::trail::columns::{self, Scratch};

fn not_of_size(name: &str, bytes: usize) -> Failure {
    Failure::new(Kind::InvalidArgument, format!("{name} must be {bytes} bytes"))
        .hint("Pass the column of audit_events as it is stored.")
}

/// `private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details)`
fn audit_private_hash(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    // SAFETY: declared as bytea.
    let salt = unsafe { columns::salt(arguments.datum(0)) }.ok_or_else(|| not_of_size("salt", 16))?;
    let mut scratch = Scratch::default();
    // SAFETY: arguments 1 to 6 are declared with the types of the private columns.
    let private = unsafe { columns::private_fields(|n| arguments.datum(1 + n), &mut scratch) };
    Ok(varlena::bytea(zeroauth_audit_core::private_hash(&salt, &private).as_bytes()))
}

/// `event_hash(prev_hash, <public fields>, private_hash)`
fn audit_event_hash(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    // SAFETY: declared as bytea.
    let (prev, private) =
        unsafe { (columns::digest(arguments.datum(0)), columns::digest(arguments.datum(24))) };
    let prev = prev.ok_or_else(|| not_of_size("prev_hash", 32))?;
    let private = private.ok_or_else(|| not_of_size("private_hash", 32))?;
    if (0..6).any(|n| arguments.datum(1 + n).is_none()) {
        return Err(Failure::new(
            Kind::InvalidArgument,
            "tenant_id, chain, seq, event_id, occurred_at and recorded_at must not be null",
        )
        .hint("Pass the columns of audit_events as they are stored."));
    }
    let mut scratch = Scratch::default();
    let value = |n| if n < 23 { arguments.datum(1 + n) } else { None };
    // SAFETY: arguments 1 to 23 are declared with the types of the public columns.
    let (public, _) = unsafe { columns::fields(value, &mut scratch) };
    Ok(varlena::bytea(zeroauth_audit_core::event_hash(&prev, &public, &private).as_bytes()))
}

sql_function!(zeroauth_audit_private_hash, pg_finfo_zeroauth_audit_private_hash, audit_private_hash);
sql_function!(zeroauth_audit_event_hash, pg_finfo_zeroauth_audit_event_hash, audit_event_hash);
