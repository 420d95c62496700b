//! `audit_prove` and `audit_prove_consistency`: what somebody without the database needs to check an event, or that a log only grew.
//!
//! A proof reads the tiles and nothing of the other events. It is checked here before it is handed out: a reader who gets a wrong
//! one could not distinguish a damaged log from a forged event. It shows of the event what its caller may read, and is made as the owner.

use pgrx::pg_sys;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use zeroauth_audit_core::proof::{Bundle, InLog};
use zeroauth_audit_core::registry::Entry;

use crate::log::covering::{self, Signed};
use crate::log::registry_entries::Entries;
use crate::log::registry_rows::Run;
use crate::log::store::{Interval, Log, Tiles};
use crate::pg::call::{self, Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::spi::{Parameter, Session};
use crate::trail::access::{self, Trail};
use crate::trail::caller::{AsOwner, Caller};
use crate::trail::membership::INTERNAL;
use crate::trail::tenants;

fn no_log(tenant: &str) -> Failure {
    Failure::new(Kind::UnknownTenant, format!("no log of tenant {}", tenants::shown(tenant)))
        .hint("Names are compared byte for byte; a tenant has a log once the job checkpoint has run.")
}

/// The log's tables do not fit together.
pub fn damaged(why: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::DamagedLog, format!("the log does not agree with itself: {why}"))
        .hint("Tiles, intervals or checkpoints of the log were changed: audit_verify() says more.")
}

/// Argument `n` from 0, an event's id as it is printed.
pub fn event_id(arguments: &Arguments, n: usize) -> Result<String, Failure> {
    // SAFETY: a uuid is 16 bytes by reference.
    let id = arguments.datum(n).map(|datum| unsafe { *datum.cast_mut_ptr::<[u8; 16]>() });
    let id = id.ok_or_else(|| tenants::is_null("event"))?;
    Ok(pgrx::datum::Uuid::from_bytes(id).to_string())
}

/// The event is not there, or its tenant is not.
pub fn no_event(
    session: &Session,
    trail: &Trail,
    (tenant, event_id): (&str, &str),
    may_see_tenants: bool,
) -> Result<Failure, Failure> {
    let sql = format!("SELECT 1 FROM {} WHERE tenant_id = $1 LIMIT 1", trail.name);
    let mut known = false;
    session.all(&sql, &[Parameter::Text(tenant)], |_| {
        known = true;
        Ok(())
    })?;
    if !known {
        return Ok(tenants::unknown(session, trail, "events", tenant, may_see_tenants));
    }
    let message = format!("no event {event_id} of tenant {}", tenants::shown(tenant));
    Ok(Failure::new(Kind::UnknownTenant, message).hint("Look for its event_id in audit_events."))
}

/// `audit_prove(tenant, event, private_fields)`, as the caller.
fn prove(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let tenant = arguments.text(0)?.ok_or_else(|| tenants::is_null("tenant"))?;
    let event_id = event_id(arguments, 1)?;
    let (caller, table) = (Caller::now(), access::table()?);
    caller.require_no_policy(table)?;
    let private = caller.private_fields(table, arguments.datum(2).map(|datum| datum.value() != 0))?;
    let may_see_tenants = caller.may_see_tenants(table);
    let owner = AsOwner::begin()?;
    let trail = Trail::open()?;
    let session = Session::connect();
    let Some(event) = event(&session, &trail.name, (&tenant, &event_id), private)? else {
        return Err(no_event(&session, &trail, (&tenant, &event_id), may_see_tenants)?);
    };
    let bundle = bundle(&session, &tenant, &event_id, event)?;
    drop(session);
    drop(owner);
    Ok(call::text(&bundle.format()))
}

/// An event as a bundle needs it.
struct Event {
    chain: i16,
    seq: i64,
    hash: Digest,
    exported: String,
}

fn bundle(session: &Session, tenant: &str, event_id: &str, event: Event) -> Result<Bundle, Failure> {
    let log = Log::current(session, INTERNAL, tenant)?.ok_or_else(|| no_log(tenant))?;
    let place = (tenant, log.epoch);
    let uncovered = || {
        Failure::new(Kind::NotSealed, format!("no signed checkpoint covers event {event_id} yet"))
            .hint("The job checkpoint runs every minute; it signs when zeroauth_audit.checkpoint_key_file names a key.")
    };
    let interval = Interval::of(session, INTERNAL, place, event.chain, event.seq)?.ok_or_else(uncovered)?;
    let entries = Entries::open(session, INTERNAL)?.ok_or_else(uncovered)?;
    let (index, leaf) = (interval.leaf(event.seq), leaf_hash(event.hash.as_bytes()));
    let Entries { names, tiles: registry, .. } = &entries;
    let stated = entries.oldest(place, index)?.ok_or_else(uncovered)?;
    let signed = Signed::newest(session, INTERNAL, stated.index)?.ok_or_else(uncovered)?;
    let (size, root) = (stated.log.size, &stated.log.root);
    let in_log = Tiles::new(session, INTERNAL, tenant, log.epoch).inclusion(index, size)?.map_err(damaged)?;
    verify_inclusion(index, size, &leaf, &in_log, root)
        .map_err(|_| damaged(format!("event {event_id} is not what was sealed, or a tile is not")))?;
    let path = registry.inclusion(stated.index, signed.size)?.map_err(damaged)?;
    let text = stated.text();
    verify_inclusion(stated.index, signed.size, &Entry::leaf(&text), &path, &signed.root)
        .map_err(|_| damaged(format!("entry {} is not what was signed, or a tile is not", stated.index)))?;
    let anchors = covering::anchors(session, registry, stated.index, &signed)?;
    Ok(Bundle {
        index: stated.index,
        path,
        extra: Some(text.into_bytes()),
        checkpoint: signed.note,
        log: Some(InLog { names: names.clone(), index, path: in_log }),
        event: Some(event.exported),
        anchors: anchors.into_iter().map(|covered| covered.anchor).collect(),
    })
}

fn event(
    session: &Session,
    trail: &str,
    (tenant, event_id): (&str, &str),
    private: bool,
) -> Result<Option<Event>, Failure> {
    let shown = if private { "event" } else { "public_event" };
    let sql = format!(
        "SELECT e.chain, e.seq, e.event_hash, x.{shown}
         FROM {trail} e JOIN {INTERNAL}.exported x ON x.tenant_id = e.tenant_id AND x.event_id = e.event_id
         WHERE e.tenant_id = $1 AND e.event_id = $2::pg_catalog.uuid"
    );
    let mut found = None;
    session.all(&sql, &[Parameter::Text(tenant), Parameter::Text(event_id)], |row| {
        let hash = row.bytes(2).and_then(Digest::from_slice);
        found = hash.zip(row.text(3)?).map(|(hash, exported)| Event {
            chain: row.int2(0).unwrap_or(0),
            seq: row.int8(1).unwrap_or(0),
            hash,
            exported,
        });
        Ok(())
    })?;
    Ok(found)
}

/// `audit_prove_consistency(tenant, from_size, to_size)`; without a tenant, of the registry.
fn prove_consistency(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let tenant = arguments.text(0)?;
    let given = |n: usize, name| arguments.int8(n).ok_or_else(|| tenants::is_null(name));
    let (from_size, to_size) = (given(1, "from_size")?, given(2, "to_size")?);
    let session = Session::connect();
    let (tiles, size, what) = match &tenant {
        Some(tenant) => {
            let log = Log::current(&session, INTERNAL, tenant)?.ok_or_else(|| no_log(tenant))?;
            (Tiles::new(&session, INTERNAL, tenant, log.epoch), log.size, "a log")
        }
        None => {
            let size = Run::newest(&session, INTERNAL)?.map_or(0, |run| run.size);
            (Tiles::registry(&session, INTERNAL), size, "the registry")
        }
    };
    let sizes = u64::try_from(from_size).ok().zip(u64::try_from(to_size).ok());
    let Some((from, to)) = sizes.filter(|(from, to)| from <= to && *to <= size) else {
        let message = format!("{from_size} and {to_size} are not two sizes of {what}, which has {size}");
        return Err(Failure::new(Kind::InvalidArgument, message).hint(
            "from_size is at most to_size, and to_size at most how large it is now: of the registry, see audit_checkpoints.",
        ));
    };
    let hashes = tiles.consistency(from, to)?.map_err(damaged)?;
    let (old, new) = (tiles.root(from)?.map_err(damaged)?, tiles.root(to)?.map_err(damaged)?);
    if from > 0 {
        verify_consistency(from, to, &old, &new, &hashes).map_err(damaged)?;
    }
    drop(tiles);
    drop(session);
    Ok(call::text(&covering::base64_lines(&hashes)))
}

sql_function!(zeroauth_audit_prove, pg_finfo_zeroauth_audit_prove, prove);
sql_function!(zeroauth_audit_prove_consistency, pg_finfo_zeroauth_audit_prove_consistency, prove_consistency);
