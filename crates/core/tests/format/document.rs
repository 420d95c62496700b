//! The worked example of `docs/format.md`, read out of the document itself: it cannot go stale.

use serde_json::Value as Json;
use zeroauth_audit_core::Digest;

use crate::exported::{Exported, hex};
use crate::plain::{PRIVATE, PUBLIC, event_input, private_input};

const DOCUMENT: &str = include_str!("../../../../docs/format.md");

/// The fenced block that the document labels `label`.
fn block(label: &str) -> &'static str {
    let labelled = |block: &&str| block.lines().next().is_some_and(|line| line.ends_with(label));
    let block = DOCUMENT.split("```").skip(1).step_by(2).find(labelled);
    let block = block.unwrap_or_else(|| panic!("no block is labelled {label}"));
    block.split_once('\n').unwrap().1
}

/// The bytes of a block whose lines are hexadecimal, then two spaces and a remark.
fn bytes(label: &str) -> Vec<u8> {
    let digits = |line: &str| line.split("  ").next().unwrap_or_default().replace(' ', "");
    hex::decode(block(label).lines().map(digits).collect::<String>()).unwrap()
}

/// The field names in the second column of the table below the line `heading`.
fn table(heading: &str) -> Vec<&'static str> {
    let rows = DOCUMENT.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.split('|').nth(2).unwrap().trim().trim_matches('`')).collect()
}

fn example() -> Exported {
    Exported::read(&serde_json::from_str::<Json>(block("example-event")).unwrap())
}

#[test]
fn the_documented_inputs_are_those_of_the_documented_event() {
    let Exported { event, .. } = example();
    assert_eq!(bytes("example-private-input"), private_input(&event));
    let private_hash = hex(block("example-private-hash").trim());
    assert_eq!(bytes("example-event-input"), event_input(&event, &private_hash));
}

#[test]
fn the_documented_hashes_are_what_this_crate_computes() {
    let Exported { event, event_hash, erased } = example();
    assert_eq!(erased, None);
    assert_eq!(event.prev, *Digest::GENESIS.as_bytes());
    assert_eq!(event.core_private_hash().to_string(), block("example-private-hash").trim());
    assert_eq!(event.core_event_hash().to_string(), block("example-event-hash").trim());
    assert_eq!(event.core_event_hash(), Digest::new(event_hash));
}

#[test]
fn the_documented_tables_list_every_field_in_hash_order() {
    assert_eq!(table("Public, in hash order"), PUBLIC.map(|(name, _)| name));
    assert_eq!(table("Private, in hash order"), PRIVATE.map(|(name, _)| name));
}
