//! Seals the scratch table of `audit_drill()`, which [`crate::trail::scratch`] distinguishes from the trail.
//!
//! The drill itself is SQL (`sql/schema/verify/drill.sql`). The functions that verify the trail verify its table, and [`crate::log::seal`]
//! adds its events to logs beside it. Only the key is different: it is generated for the drill and dropped, so a drill needs no key
//! file, and signs nothing that an auditor would accept.

use pgrx::pg_sys;

use crate::log::keys::{self, Signer};
use crate::log::seal::Sealer;
use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::spi::Session;
use crate::trail::access::Trail;

/// Name of the keys that sign a drill's logs; nothing of that name can be published.
const ORIGIN: &str = "drill.zeroauth-audit.invalid";

/// `drill_seal(scratch)`: what the job checkpoint would do if the table were the trail.
fn audit_drill_seal(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let trail = Trail::created_here(arguments)?;
    let schema = trail.logs.as_deref().ok_or_else(|| {
        Failure::new(Kind::InvalidArgument, "not a table of a drill").hint("It is called by audit_drill().")
    })?;
    let session = Session::connect();
    let signer = Signer::ephemeral(ORIGIN)?;
    keys::remember_quietly(&session, schema, &signer)?;
    let sealer = Sealer::start(&session, &trail, schema, Some(signer))?.map_err(|why| {
        Failure::new(Kind::DamagedLog, format!("the drill's registry: {why}"))
            .hint("A drill's tables are made anew each time: try again.")
    })?;
    let (tenants, _) = sealer.grown("")?;
    let mut sealed = 0;
    for (tenant, chains) in &tenants {
        let (events, _) = sealer.seal(tenant, chains, None)?.map_err(|doubt| {
            Failure::new(Kind::DamagedLog, format!("tenant {tenant:?}: {}", doubt.words()))
                .hint("A drill plays its attacks after its events were sealed.")
        })?;
        sealed += events;
    }
    sealer.writes.flush()?;
    // As by the job, what is signed was stored by a call before.
    if !sealer.registry.flush()? {
        sealer.close()?.map_err(|why| {
            Failure::new(Kind::DamagedLog, format!("the drill's registry: {why}"))
                .hint("A drill plays its attacks after its events were sealed.")
        })?;
    }
    drop(sealer);
    drop(session);
    Ok(pg_sys::Datum::from(sealed))
}

sql_function!(zeroauth_audit_drill_seal, pg_finfo_zeroauth_audit_drill_seal, audit_drill_seal);
