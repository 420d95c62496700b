//! The columns of `audit_events`, and how stored values become the fields that the core hashes.
//!
//! The hash covers the stored value: text as its bytes, `inet` and `jsonb` as PostgreSQL's own text of them, times
//! as microseconds since 1970. Nothing is looked up by name while rows are read: [`check_layout`] has made sure that
//! the columns are where the install script put them.

use pgrx::pg_sys;
use zeroauth_audit_core::{Digest, PrivateFields, PublicFields, Salt};

use crate::pg::error::{Failure, Kind};
use crate::pg::time;
use crate::pg::varlena;
use crate::pg::versions;
use crate::trail::jsonb;

/// Names and types, in the order of the install script.
pub const COLUMNS: [(&str, pg_sys::Oid); COUNT] = [
    ("tenant_id", pg_sys::TEXTOID),
    ("chain", pg_sys::INT2OID),
    ("seq", pg_sys::INT8OID),
    ("event_id", pg_sys::UUIDOID),
    ("occurred_at", pg_sys::TIMESTAMPTZOID),
    ("recorded_at", pg_sys::TIMESTAMPTZOID),
    ("category", pg_sys::TEXTOID),
    ("action", pg_sys::TEXTOID),
    ("outcome", pg_sys::TEXTOID),
    ("severity", pg_sys::TEXTOID),
    ("resource", pg_sys::TEXTOID),
    ("service_name", pg_sys::TEXTOID),
    ("env", pg_sys::TEXTOID),
    ("provider", pg_sys::TEXTOID),
    ("request_id", pg_sys::TEXTOID),
    ("correlation_id", pg_sys::TEXTOID),
    ("trace_id", pg_sys::TEXTOID),
    ("span_id", pg_sys::TEXTOID),
    ("status_code", pg_sys::INT4OID),
    ("latency_ms", pg_sys::INT4OID),
    ("payload_size", pg_sys::INT8OID),
    ("error_code", pg_sys::TEXTOID),
    ("db_role", pg_sys::TEXTOID),
    ("actor_type", pg_sys::TEXTOID),
    ("actor_id", pg_sys::TEXTOID),
    ("ip", pg_sys::INETOID),
    ("user_agent", pg_sys::TEXTOID),
    ("error_message", pg_sys::TEXTOID),
    ("details", pg_sys::JSONBOID),
    ("salt", pg_sys::BYTEAOID),
    ("private_hash", pg_sys::BYTEAOID),
    ("prev_hash", pg_sys::BYTEAOID),
    ("event_hash", pg_sys::BYTEAOID),
    ("hash_version", pg_sys::INT2OID),
];

/// How many columns there are.
pub const COUNT: usize = 34;

/// Index of each column the code names, from 0.
pub mod at {
    #![allow(missing_docs)]
    pub const TENANT_ID: usize = 0;
    pub const CHAIN: usize = 1;
    pub const SEQ: usize = 2;
    pub const EVENT_ID: usize = 3;
    pub const OCCURRED_AT: usize = 4;
    pub const RECORDED_AT: usize = 5;
    pub const ACTION: usize = 7;
    pub const OUTCOME: usize = 8;
    pub const SEVERITY: usize = 9;
    pub const TRACE_ID: usize = 16;
    pub const SPAN_ID: usize = 17;
    pub const DB_ROLE: usize = 22;
    pub const ACTOR_TYPE: usize = 23;
    pub const DETAILS: usize = 28;
    pub const SALT: usize = 29;
    pub const PRIVATE_HASH: usize = 30;
    pub const PREV_HASH: usize = 31;
    pub const EVENT_HASH: usize = 32;
    pub const HASH_VERSION: usize = 33;
}

/// The columns, comma-separated, for a SELECT list.
pub fn select_list() -> String {
    COLUMNS.map(|(name, _)| name).join(", ")
}

/// Makes sure that `desc` begins with exactly the columns of [`COLUMNS`].
///
/// # Safety
/// `desc` must be live.
pub unsafe fn check_layout(desc: pg_sys::TupleDesc) -> Result<(), Failure> {
    // SAFETY: live by contract.
    let natts = unsafe { (*desc).natts } as usize;
    let fits = natts >= COUNT
        && COLUMNS.iter().enumerate().all(|(n, (name, oid))| {
            // SAFETY: n < natts.
            let attribute = unsafe { &*versions::attribute(desc, n) };
            // SAFETY: a catalog name is NUL-terminated.
            let stored = unsafe { std::ffi::CStr::from_ptr(attribute.attname.data.as_ptr()) };
            !attribute.attisdropped && attribute.atttypid == *oid && stored.to_bytes() == name.as_bytes()
        });
    if fits {
        return Ok(());
    }
    Err(Failure::new(Kind::UnexpectedTable, "audit_events does not have the columns that the extension made")
        .hint("Run ALTER EXTENSION zeroauth_audit UPDATE, or restore the columns."))
}

/// Room for texts that are made of stored values, so that they need no allocation.
#[derive(Default)]
pub struct Scratch {
    ip: [u8; 24],
    details: jsonb::Text,
}

/// `inet::text` of `datum`.
///
/// # Safety
/// `datum` must be a valid inet.
unsafe fn inet_text(datum: pg_sys::Datum, room: &mut [u8; 24]) -> &[u8] {
    // SAFETY: valid by contract. Layout of inet_struct: family, bits, address.
    let stored = unsafe { varlena::bytes(datum) };
    if let [2, bits, a, b, c, d] = *stored {
        let mut end = 0;
        for (octet, after) in [(a, b'.'), (b, b'.'), (c, b'.'), (d, b'/'), (bits, 0)] {
            for (divisor, digit) in [(100, octet / 100), (10, octet / 10 % 10), (1, octet % 10)] {
                if octet >= divisor || divisor == 1 {
                    room[end] = b'0' + digit;
                    end += 1;
                }
            }
            room[end] = after;
            end += usize::from(after != 0);
        }
        return &room[..end];
    }
    // SAFETY: network_show is the cast inet::text; it takes one inet and returns a text.
    unsafe {
        pgrx::direct_function_call_as_datum(pg_sys::network_show, &[Some(datum)])
            .map_or(&[][..], |text| varlena::bytes(text))
    }
}

/// `jsonb::text` of `datum`.
///
/// # Safety
/// `datum` must be a valid jsonb; the text lives as long as the current memory context.
unsafe fn jsonb_text(datum: pg_sys::Datum, room: &mut jsonb::Text) -> &[u8] {
    // SAFETY: valid by contract.
    if jsonb::write(unsafe { varlena::bytes(datum) }, room).is_some() {
        return room;
    }
    // SAFETY: valid by contract; a whole, uncompressed value is what JsonbToCString reads.
    unsafe {
        let jsonb = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
        let length = pgrx::varlena::varsize(jsonb.cast());
        let text = pg_sys::JsonbToCString(std::ptr::null_mut(), &raw mut (*jsonb).root, length as i32);
        std::ffi::CStr::from_ptr(text).to_bytes()
    }
}

/// The fields of one row; those that a row must have and has not are zero or absent.
///
/// # Safety
/// `value(n)` must return valid values of the types in [`COLUMNS`], alive for `'a`.
#[inline]
pub unsafe fn fields<'a>(
    value: impl Fn(usize) -> Option<pg_sys::Datum>,
    scratch: &'a mut Scratch,
) -> (PublicFields<'a>, PrivateFields<'a>) {
    // SAFETY: text columns hold varlenas, by contract.
    let text = |n| value(n).map(|datum| unsafe { varlena::bytes(datum) });
    let int8 = |n| value(n).map(|datum| datum.value() as i64);
    let int4 = |n| value(n).map(|datum| i64::from(datum.value() as i32));
    let time = |n| int8(n).map(time::unix_micros).unwrap_or_default();
    let public = PublicFields {
        tenant_id: text(at::TENANT_ID),
        chain: value(at::CHAIN).map_or(0, |datum| i64::from(datum.value() as i16)),
        seq: int8(at::SEQ).unwrap_or_default(),
        // SAFETY: a uuid is 16 bytes by reference, by contract.
        event_id: value(at::EVENT_ID).map_or([0; 16], |datum| unsafe { *datum.cast_mut_ptr::<[u8; 16]>() }),
        occurred_at: time(at::OCCURRED_AT),
        recorded_at: time(at::RECORDED_AT),
        category: text(6),
        action: text(at::ACTION),
        outcome: text(at::OUTCOME),
        severity: text(at::SEVERITY),
        resource: text(10),
        service_name: text(11),
        env: text(12),
        provider: text(13),
        request_id: text(14),
        correlation_id: text(15),
        trace_id: text(at::TRACE_ID),
        span_id: text(at::SPAN_ID),
        status_code: int4(18),
        latency_ms: int4(19),
        payload_size: int8(20),
        error_code: text(21),
        db_role: text(at::DB_ROLE),
    };
    // SAFETY: passed on from the caller.
    let private = unsafe { private_fields(|n| value(at::ACTOR_TYPE + n), scratch) };
    (public, private)
}

/// The private fields, `value(0)` being `actor_type`.
///
/// # Safety
/// As for [`fields`].
#[inline]
pub unsafe fn private_fields<'a>(
    value: impl Fn(usize) -> Option<pg_sys::Datum>,
    scratch: &'a mut Scratch,
) -> PrivateFields<'a> {
    // SAFETY: text columns hold varlenas, by contract.
    let text = |n| value(n).map(|datum| unsafe { varlena::bytes(datum) });
    PrivateFields {
        actor_type: text(0),
        actor_id: text(1),
        // SAFETY: an inet, by contract.
        ip: value(2).map(|datum| unsafe { inet_text(datum, &mut scratch.ip) }),
        user_agent: text(3),
        error_message: text(4),
        // SAFETY: a jsonb, by contract.
        details: value(5).map(|datum| unsafe { jsonb_text(datum, &mut scratch.details) }),
    }
}

/// A digest column.
///
/// # Safety
/// `datum` must be a valid bytea.
pub unsafe fn digest(datum: Option<pg_sys::Datum>) -> Option<Digest> {
    // SAFETY: valid by contract.
    datum.and_then(|datum| Digest::from_slice(unsafe { varlena::bytes(datum) }))
}

/// A salt column.
///
/// # Safety
/// `datum` must be a valid bytea.
pub unsafe fn salt(datum: Option<pg_sys::Datum>) -> Option<Salt> {
    // SAFETY: valid by contract.
    datum.and_then(|datum| Salt::from_slice(unsafe { varlena::bytes(datum) }))
}

/// What is wrong with the content of one stored event.
#[derive(Debug)]
pub enum ContentFinding {
    /// It cannot be read as an event.
    Unreadable(&'static str),
    /// Its fields do not have the hash that is stored.
    Mismatch {
        /// The hash its fields have.
        recomputed: Digest,
        /// The hash that is stored.
        stored: Digest,
    },
    /// Its private part is gone, and no chained event explains the erasure; or it is there beside its commitment.
    Private(&'static str),
}

/// The links of one stored event, and what is wrong with its content.
pub struct Checked {
    /// Stored `prev_hash`.
    pub prev_hash: Digest,
    /// Stored `event_hash`.
    pub event_hash: Digest,
    /// `None` when the content is what was hashed.
    pub finding: Option<ContentFinding>,
}

/// Recomputes one stored event; `Err` when it cannot even be placed in a chain.
///
/// # Safety
/// As for [`fields`].
pub unsafe fn check_event(value: impl Fn(usize) -> Option<pg_sys::Datum>) -> Result<Checked, &'static str> {
    use ContentFinding::{Mismatch, Private, Unreadable};
    for n in [at::TENANT_ID, at::CHAIN, at::SEQ] {
        if value(n).is_none() {
            return Err("tenant_id, chain or seq is null");
        }
    }
    // SAFETY: hash columns hold byteas, by contract.
    let (prev_hash, stored, salt, erased) = unsafe {
        (
            digest(value(at::PREV_HASH)).ok_or("prev_hash is not 32 bytes")?,
            digest(value(at::EVENT_HASH)).ok_or("event_hash is not 32 bytes")?,
            salt(value(at::SALT)),
            digest(value(at::PRIVATE_HASH)),
        )
    };
    let checked = |finding| Ok(Checked { prev_hash, event_hash: stored, finding });
    if value(at::HASH_VERSION).map(|datum| datum.value() as i16)
        != Some(zeroauth_audit_core::hash::HASH_VERSION)
    {
        return checked(Some(Unreadable("hash_version is not 1")));
    }
    if [at::EVENT_ID, at::OCCURRED_AT, at::RECORDED_AT].iter().any(|&n| value(n).is_none()) {
        return checked(Some(Unreadable("event_id, occurred_at or recorded_at is null")));
    }
    let mut scratch = Scratch::default();
    // SAFETY: passed on from the caller.
    let (public, private) = unsafe { fields(&value, &mut scratch) };
    let recomputed = match (salt, erased) {
        (Some(salt), None) if value(at::PRIVATE_HASH).is_none() => {
            zeroauth_audit_core::whole_event_hash(&prev_hash, &public, &salt, &private)
        }
        (None, Some(_)) if value(at::SALT).is_none() && private.is_empty() => {
            return checked(Some(Private("the private part is gone and no chained event explains it")));
        }
        _ => {
            return checked(Some(Private("salt, private_hash and the private fields contradict each other")));
        }
    };
    checked((recomputed != stored).then_some(Mismatch { recomputed, stored }))
}
