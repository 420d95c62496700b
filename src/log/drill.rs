//! The scratch table of `audit_drill()`: what the guards take for a trail, so that attacks on them can be played.
//!
//! The drill itself is SQL (`sql/schema/verify/drill.sql`); the verification of its table is that of the real one
//! ([`crate::verify::functions`]), and so is what adds its events to logs beside it ([`crate::log::seal`]), but for the key, which is made
//! up and forgotten: a drill needs none, and signs nothing that an outsider would believe. Nothing is remembered here: the
//! table is known by its name, its schema's name, and by this transaction having created it. So nobody else can see it,
//! and it is never the trail itself, nor any table that a user left under such a name.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::log::keys::{self, Signer};
use crate::log::seal::Sealer;
use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::spi::Session;
use crate::trail::access::Trail;

/// What the name of the drill's schema begins with.
pub const SCHEMA_PREFIX: &str = "zeroauth_audit_drill_";
/// Name of the keys that sign a drill's logs; nothing of that name can be published.
const ORIGIN: &str = "drill.zeroauth-audit.invalid";
/// `InvalidSubTransactionId`, which pgrx does not have.
const NO_SUBTRANSACTION: pg_sys::SubTransactionId = 0;

/// Whether this transaction created `relation`: then no other sees it.
///
/// # Safety
/// `relation` must be open.
#[inline]
pub unsafe fn is_created_here(relation: pg_sys::Relation) -> bool {
    // SAFETY: open by contract.
    unsafe { (*relation).rd_createSubid != NO_SUBTRANSACTION }
}

/// The schema of `relation` when it is a drill's, of a drill that this transaction plays. Says nothing of the name of the
/// table: only the one called as the trail is guarded like it.
pub fn scratch_schema(relation: pg_sys::Oid) -> Option<String> {
    // SAFETY: catalog look-ups by oid, NULL for none.
    let schema = unsafe { pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation)) };
    if schema.is_null() {
        return None;
    }
    // SAFETY: NUL-terminated.
    let schema = unsafe { CStr::from_ptr(schema) }.to_str().ok()?;
    if !schema.starts_with(SCHEMA_PREFIX) {
        return None;
    }
    // SAFETY: takes no lock, which DDL of somebody else's table might wait for later; NULL for none. What this
    // transaction created, it holds locked already, and only for that is the answer yes.
    unsafe {
        let open = pg_sys::RelationIdGetRelation(relation);
        if open.is_null() {
            return None;
        }
        let created_here = is_created_here(open);
        pg_sys::RelationClose(open);
        created_here.then(|| schema.to_owned())
    }
}

/// `drill_seal(scratch)`: what the job checkpoint would do if the table were the trail.
fn audit_drill_seal(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let trail = Trail::created_here(arguments)?;
    let schema = trail.logs.as_deref().ok_or_else(|| {
        Failure::new(Kind::InvalidArgument, "not a table of a drill").hint("It is called by audit_drill().")
    })?;
    let session = Session::connect();
    let signer = Signer::ephemeral(ORIGIN)?;
    keys::remember(&session, schema, &signer)?;
    let sealer = Sealer::start(&session, &trail, schema, Some(signer))?;
    let (tenants, _) = sealer.grown("")?;
    let mut sealed = 0;
    for (tenant, chains) in &tenants {
        let (events, _) = sealer.seal(tenant, chains)?.map_err(|doubt| {
            Failure::new(Kind::DamagedLog, format!("tenant {tenant:?}: {}", doubt.words()))
                .hint("A drill plays its attacks after its events were sealed.")
        })?;
        sealed += events;
    }
    sealer.writes.flush()?;
    drop(sealer);
    drop(session);
    Ok(pg_sys::Datum::from(sealed))
}

sql_function!(zeroauth_audit_drill_seal, pg_finfo_zeroauth_audit_drill_seal, audit_drill_seal);
