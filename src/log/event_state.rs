//! `audit_event_state`: what protects one event, one row a step.
//!
//! Everything is recomputed, signatures of the log included, but for what only an outside can say: that a witness signed, and that a target holds an anchor. What
//! is not there yet is NULL, and never "ok".

use pgrx::pg_sys;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::{leaf_hash, verify_inclusion};
use zeroauth_audit_core::note::VerifierKey;
use zeroauth_audit_core::registry::Entry;
use zeroauth_audit_core::trust::Trust;

use crate::log::bundle::{event_id, no_event};
use crate::log::covering::{self, Covered, Signed};
use crate::log::registry_entries::Entries;
use crate::log::store::{Interval, Log, Tiles};
use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::Failure;
use crate::pg::result_rows::{Rows, Value};
use crate::pg::spi::{Parameter, Session};
use crate::trail::access::Trail;
use crate::trail::columns::{self, ContentFinding, at};
use crate::trail::membership::INTERNAL;
use crate::trail::tenants;

/// The stored event, as far as the steps behind its content need it.
struct Stored {
    chain: Option<i16>,
    seq: Option<i64>,
    prev_hash: Option<Digest>,
    event_hash: Option<Digest>,
}

/// What is shown of a hash.
fn short(hash: &Digest) -> String {
    format!("{:.8}..", hash.to_string())
}

/// The result, one step a row.
struct Steps(Rows);

impl Steps {
    fn add(&mut self, step: impl Into<String>, ok: Option<bool>, detail: impl Into<String>) {
        let ok = ok.map_or(Value::Null, Value::Bool);
        self.0.push(vec![Value::Text(step.into()), ok, Value::Text(detail.into())]);
    }
}

/// `audit_event_state(tenant, event)`
fn event_state(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let tenant = arguments.text(0)?.ok_or_else(|| tenants::is_null("tenant"))?;
    let event_id = event_id(arguments, 1)?;
    let trail = Trail::open()?;
    let mut steps = Steps(Rows::start(arguments));
    let session = Session::connect();
    let Some(stored) = content(&session, &trail, (&tenant, &event_id), &mut steps)? else {
        return Err(no_event(&session, &trail, (&tenant, &event_id), true)?);
    };
    link(&session, &trail, &tenant, &stored, &mut steps)?;
    outside(&session, &tenant, &stored, &mut steps)?;
    Ok(pg_sys::Datum::null())
}

/// The first two steps: the fields, and the private ones among them.
fn content(
    session: &Session,
    trail: &Trail,
    (tenant, event_id): (&str, &str),
    steps: &mut Steps,
) -> Result<Option<Stored>, Failure> {
    let sql = format!(
        "SELECT {} FROM {} WHERE tenant_id = $1 AND event_id = $2::pg_catalog.uuid LIMIT 1",
        columns::select_list(),
        trail.name
    );
    let mut found = None;
    session.all(&sql, &[Parameter::Text(tenant), Parameter::Text(event_id)], |row| {
        // SAFETY: the query selects the columns in their order.
        let (checked, prev_hash, event_hash) = unsafe {
            (
                columns::check_event(|n| row.datum(n)),
                columns::digest(row.datum(at::PREV_HASH)),
                columns::digest(row.datum(at::EVENT_HASH)),
            )
        };
        let (chain, seq) = (row.int2(at::CHAIN), row.int8(at::SEQ));
        let place = format!("chain {}, seq {}", chain.unwrap_or(-1), seq.unwrap_or(-1));
        let is_erased = row.datum(at::PRIVATE_HASH).is_some();
        match checked.map(|checked| (checked.finding, checked.event_hash)) {
            Ok((None, hash)) => {
                steps.add("content", Some(true), format!("{place}: hash {} recomputed", short(&hash)));
                steps.add("private part", Some(true), "there, and bound by its salt");
            }
            Ok((Some(ContentFinding::Mismatch { recomputed, stored }), _)) => {
                let detail =
                    format!("{place}: recorded {}, recomputed {}", short(&stored), short(&recomputed));
                steps.add("content", Some(false), detail);
                steps.add("private part", None, "one hash is over both: either may be what was changed");
            }
            Ok((Some(ContentFinding::Private(why)), _)) => {
                steps.add("content", None, format!("{place}: not recomputed without its private part"));
                steps.add("private part", Some(false), why);
            }
            Ok((Some(ContentFinding::Unreadable(why)), _)) | Err(why) => {
                steps.add("content", Some(false), format!("{place}: {why}"));
                steps.add("private part", None, if is_erased { "erased" } else { "not recomputed" });
            }
        }
        found = Some(Stored { chain, seq, prev_hash, event_hash });
        Ok(())
    })?;
    Ok(found)
}

/// Whether it follows the event before it, and the one behind follows it.
fn link(
    session: &Session,
    trail: &Trail,
    tenant: &str,
    stored: &Stored,
    steps: &mut Steps,
) -> Result<(), Failure> {
    let (Some(chain), Some(seq), Some(prev), Some(hash)) =
        (stored.chain, stored.seq, stored.prev_hash, stored.event_hash)
    else {
        steps.add("link", Some(false), "it has no place or no hashes");
        return Ok(());
    };
    let sql = format!(
        "SELECT seq, event_hash, prev_hash FROM {} WHERE tenant_id = $1 AND chain = $2 AND seq IN ($3, $4)",
        trail.name
    );
    let parameters = [
        Parameter::Text(tenant),
        Parameter::Int2(chain),
        Parameter::Int8(seq.saturating_sub(1)),
        Parameter::Int8(seq.saturating_add(1)),
    ];
    let (mut before, mut behind) = (None, None);
    session.all(&sql, &parameters, |row| {
        let digest = |n| row.bytes(n).and_then(Digest::from_slice);
        if row.int8(0) == Some(seq - 1) {
            before = Some(digest(1));
        } else {
            behind = Some(digest(2));
        }
        Ok(())
    })?;
    let (ok, detail) = match (seq, before) {
        (1, _) if prev == Digest::new([0; 32]) => (true, "the first of its chain".to_owned()),
        (1, _) => (false, "the first of its chain, and yet linked to another".to_owned()),
        (_, None) => (false, format!("seq {} is not there", seq - 1)),
        (_, Some(before)) if before == Some(prev) => (true, format!("follows seq {}", seq - 1)),
        (_, Some(_)) => (false, format!("prev_hash is not the hash of seq {}", seq - 1)),
    };
    match behind {
        Some(next) if next != Some(hash) => {
            steps.add("link", Some(false), format!("{detail}; seq {} does not follow it", seq + 1));
        }
        Some(_) => steps.add("link", Some(ok), format!("{detail}; seq {} follows it", seq + 1)),
        None => steps.add("link", Some(ok), format!("{detail}; the newest of its chain")),
    }
    Ok(())
}

/// Log, checkpoint, witnesses, anchors.
fn outside(session: &Session, tenant: &str, stored: &Stored, steps: &mut Steps) -> Result<(), Failure> {
    let log = Log::current(session, INTERNAL, tenant)?;
    let (Some(chain), Some(seq), Some(hash), Some(log)) = (stored.chain, stored.seq, stored.event_hash, log)
    else {
        return not_sealed(session, tenant, "the tenant has no log yet: the job checkpoint makes it", steps);
    };
    let place = (tenant, log.epoch);
    let Some(interval) = Interval::of(session, INTERNAL, place, chain, seq)? else {
        return not_sealed(session, tenant, "not sealed yet: the job checkpoint runs every minute", steps);
    };
    let (index, leaf) = (interval.leaf(seq), leaf_hash(hash.as_bytes()));
    let tiles = Tiles::new(session, INTERNAL, tenant, log.epoch);
    let here = format!("leaf {index} of {}", log.size);
    match tiles.leaf(index)? {
        _ if log.state == "held" => {
            steps.add("log", Some(false), format!("{here}; held, since a sink holds another state of it"));
        }
        Some(sealed) if sealed == leaf => steps.add("log", Some(true), here),
        Some(_) => steps.add("log", Some(false), format!("{here}: another event was sealed there")),
        None => steps.add("log", Some(false), format!("{here}: its tile is not there")),
    }
    let entries = Entries::open(session, INTERNAL)?;
    let stated = match &entries {
        Some(entries) => entries.oldest(place, index)?,
        None => None,
    };
    let signed = match &stated {
        Some(stated) => Signed::newest(session, INTERNAL, stated.index)?,
        None => None,
    };
    let (Some(Entries { tiles: registry, .. }), Some(stated), Some(signed)) = (&entries, stated, signed)
    else {
        steps.add("checkpoint", None, "no signed checkpoint covers it yet");
        witnesses(session, None, steps)?;
        return anchors(session, tenant, None, &[], steps);
    };
    let (at, entry) = (format!("entry {} of {}", stated.index, signed.size), Entry::leaf(&stated.text()));
    let in_log = tiles.inclusion(index, stated.log.size)?;
    let is_in_log = in_log
        .is_ok_and(|path| verify_inclusion(index, stated.log.size, &leaf, &path, &stated.log.root).is_ok());
    let in_registry = registry.inclusion(stated.index, signed.size)?;
    let is_in_registry = in_registry
        .is_ok_and(|path| verify_inclusion(stated.index, signed.size, &entry, &path, &signed.root).is_ok());
    match signer(session, &signed)? {
        None => {
            let detail = format!("{at} is signed by no key that signed here, or under another root");
            steps.add("checkpoint", Some(false), detail);
        }
        Some(by) if is_in_log && is_in_registry => {
            steps.add("checkpoint", Some(true), format!("{at}, signed {} by {by}", signed.when));
        }
        Some(by) => {
            let what = if is_in_registry { "the event is not in the log of" } else { "it is not" };
            steps.add("checkpoint", Some(false), format!("{what} {at}, signed {} by {by}", signed.when));
        }
    }
    witnesses(session, Some(signed.run), steps)?;
    let proven = covering::anchors(session, registry, stated.index, &signed)?;
    anchors(session, tenant, Some((signed.origin(), stated.index)), &proven, steps)
}

fn not_sealed(session: &Session, tenant: &str, why: &str, steps: &mut Steps) -> Result<(), Failure> {
    steps.add("log", None, why);
    steps.add("checkpoint", None, "not in a log yet");
    witnesses(session, None, steps)?;
    anchors(session, tenant, None, &[], steps)
}

/// Name and id of the key that signed a checkpoint, as its vkey begins; `None` when none of the keys that signed here did, or when
/// what it signed is something else.
fn signer(session: &Session, signed: &Signed) -> Result<Option<String>, Failure> {
    let mut by = None;
    session.all(&format!("SELECT vkey FROM {INTERNAL}.keys ORDER BY last_used DESC"), &[], |row| {
        let vkey = row.text(0)?.unwrap_or_default();
        let mut trust = Trust::new();
        let is_key = VerifierKey::parse(&vkey).is_ok_and(|key| trust.add_log(key).is_ok());
        let believed = is_key.then(|| trust.registry(signed.note.as_bytes()).ok()).flatten();
        if believed.is_some_and(|believed| {
            believed.checkpoint.size == signed.size && believed.checkpoint.root == signed.root
        }) {
            let end = vkey.match_indices('+').nth(1).map_or(vkey.len(), |(end, _)| end);
            by.get_or_insert_with(|| vkey[..end].to_owned());
        }
        Ok(())
    })?;
    Ok(by)
}

/// One row a witness: those that are enabled, and those that cosigned the run of this number.
fn witnesses(session: &Session, run: Option<u64>, steps: &mut Steps) -> Result<(), Failure> {
    let sql = format!(
        "SELECT s.name, pg_catalog.to_char(c.cosigned_at, 'YYYY-MM-DD HH24:MI')
         FROM {INTERNAL}.sinks s LEFT JOIN {INTERNAL}.registry_cosignatures c ON c.sink = s.name AND c.run = $1
         WHERE s.kind = 'witness' AND (s.enabled OR c.sink IS NOT NULL) ORDER BY s.name"
    );
    let mut any = false;
    session.all(&sql, &[Parameter::Int8(run.map_or(-1, crate::pg::spi::bigint))], |row| {
        any = true;
        let step = format!("witness {}", row.text(0)?.unwrap_or_default());
        match row.text(1)? {
            Some(when) => steps.add(step, Some(true), format!("cosigned that checkpoint {when}")),
            None => steps.add(step, None, "has not cosigned a checkpoint that covers it yet"),
        }
        Ok(())
    })?;
    if !any {
        steps.add("witness", None, "none configured");
    }
    Ok(())
}

/// One row a target. `entry`: the origin of the registry and the entry to be covered; `proven`: anchors whose proofs were recomputed.
fn anchors(
    session: &Session,
    tenant: &str,
    entry: Option<(&str, u64)>,
    proven: &[Covered],
    steps: &mut Steps,
) -> Result<(), Failure> {
    let sql = include_str!("../../sql/queries/anchor_targets_of_entry.sql");
    let (origin, index) = entry.unwrap_or(("", u64::MAX));
    let parameters = [Parameter::Text(origin), Parameter::count(index), Parameter::Text(tenant)];
    let mut any = false;
    session.all(sql, &parameters, |row| {
        any = true;
        let target = row.text(0)?.unwrap_or_default();
        let step = format!("anchor {target}");
        let is_proven = |batch| proven.iter().any(|known| known.target == target && known.batch == batch);
        match (row.text(4)?, row.count(1), row.text(2)?, row.text(3)?) {
            (Some(finding), ..) => steps.add(step, Some(false), finding),
            (None, Some(batch), when, _) if is_proven(batch) => {
                let when = when.unwrap_or_default();
                steps.add(step, Some(true), format!("final {when}, batch {batch}"));
            }
            (None, Some(batch), ..) => {
                steps.add(
                    step,
                    Some(false),
                    format!("batch {batch} does not hold the registry that is here"),
                );
            }
            (None, None, _, Some(state)) => steps.add(step, None, format!("not final yet: {state}")),
            (None, None, ..) => steps.add(step, None, "no anchor covers it yet"),
        }
        Ok(())
    })?;
    if !any {
        steps.add("anchor", None, "none configured");
    }
    Ok(())
}

sql_function!(zeroauth_audit_event_state, pg_finfo_zeroauth_audit_event_state, event_state);
