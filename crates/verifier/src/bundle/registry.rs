//! An event in a proof of the registry: from its hash to the entry of its tenant's log, and from there to the registry's checkpoint.

use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::{leaf_hash, verify_inclusion};
use zeroauth_audit_core::proof::{Bundle, InLog};
use zeroauth_audit_core::registry::entry::{Entry, Log};
use zeroauth_audit_core::trust::Trust;

use super::{at_event, contained};
use crate::export::event::Event;
use crate::sealed::Unbelieved;
use crate::verdict::{Sealed, Verdict};

/// Checks both paths, and says what the verdict rests on. Returns the registry's checkpoint, if it is to be believed.
pub(super) fn included(
    bundle: &Bundle,
    place: &InLog,
    event: &Event<'_>,
    name: &str,
    trust: &Trust,
    verdict: &mut Verdict,
) -> Option<Checkpoint> {
    let extra = bundle.extra.as_deref().unwrap_or_default();
    let entry = match Entry::parse(extra) {
        Ok(Entry::Log(log)) => log,
        Ok(_) => {
            verdict.trouble_with(name, "the entry in it is not that of a log");
            return None;
        }
        Err(error) => {
            verdict.trouble_with(name, format!("the extra data: {error}"));
            return None;
        }
    };
    let registry = match trust.registry(bundle.checkpoint.as_bytes()) {
        Ok(registry) => registry,
        Err(error) if error.is_forgery() => {
            verdict.found(at_event(event, "checkpoint_mismatch", error.to_string()));
            return None;
        }
        Err(error) => {
            verdict.trouble_with(name, format!("the checkpoint: {error}"));
            return None;
        }
    };
    if registry.sealed_at.is_none() {
        verdict.trouble_with(name, format!("the checkpoint: {}", Unbelieved::NoTime));
        return None;
    }
    let checkpoint = registry.checkpoint;
    let leaf = leaf_hash(extra);
    let in_registry = verify_inclusion(bundle.index, checkpoint.size, &leaf, &bundle.path, &checkpoint.root)
        .map_err(|error| format!("the entry is not in the registry that was sealed: {error}"));
    let result = match in_registry.and_then(|()| in_log(&entry, place, event)) {
        Err(detail) => {
            verdict.found(at_event(event, "checkpoint_mismatch", detail));
            "does not contain the event".to_owned()
        }
        Ok(()) if registry.monitors.is_empty() => {
            verdict.note(format!(
                "this was claimed in entry {}: that the log only grew is shown by run files, or by a monitor's signature",
                bundle.index
            ));
            format!("{}, as was claimed", contained(event, verdict))
        }
        Ok(()) => {
            let monitors: Vec<&str> = registry.monitors.iter().map(|(name, _)| name.as_str()).collect();
            format!("{}, and every log only grew, says {}", contained(event, verdict), monitors.join(", "))
        }
    };
    verdict.checkpoints.push(Sealed {
        origin: checkpoint.origin.clone(),
        tree_size: checkpoint.size,
        of_registry: true,
        sealed_at: registry.sealed_at,
        witnesses: registry.witnesses.into_iter().map(|(name, _)| name).collect(),
        result,
    });
    Some(checkpoint)
}

/// Whether the entry is about the event's tenant, and its tree has the event where the bundle says.
fn in_log(entry: &Log, place: &InLog, event: &Event<'_>) -> Result<(), String> {
    // Told as a finding of its own.
    let Ok((_, stored)) = &event.links else { return Ok(()) };
    if place.names.label(event.tenant) != entry.label {
        return Err(format!("entry with the label {} is of another tenant", entry.label));
    }
    verify_inclusion(place.index, entry.size, &leaf_hash(stored.as_bytes()), &place.path, &entry.root)
        .map_err(|error| format!("the event is not in the log that was sealed: {error}"))
}
