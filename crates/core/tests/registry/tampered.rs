//! What the holder of the key can sign, and every reader of the files sees.

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::intervals::Interval;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::registry::entry::{Entry, Log, Restored};

use super::history::{Database, ORIGIN, frontier, label, names, range, read};

/// Three logs in two runs: entries 1 to 3, and 4 of tenant 0 with 5 + 3 events.
fn database() -> Database {
    let mut database = Database::new();
    for tenant in 0..3 {
        database.grow(label(tenant), 5);
    }
    database.run();
    database.grow(label(0), 3);
    database.run();
    database
}

/// Tenant 0 with one more event, as an attacker changes it.
fn claimed(change: impl FnOnce(&mut Log, &mut Vec<Digest>)) -> Vec<String> {
    let mut database = database();
    let mut leaves = database.logs[&label(0)].leaves.clone();
    leaves.push(leaf_hash(b"new"));
    let mut log = Log {
        label: label(0),
        epoch: 0,
        size: 9,
        root: frontier(&leaves).1,
        previous: Some(4),
        restored: None,
    };
    change(&mut log, &mut leaves);
    let (from, to) = (8, log.size.max(8) as i64);
    let intervals = if to > from { vec![Interval { chain: 0, from, to }] } else { Vec::new() };
    let edge = log.restored.map(|_| range(0, &leaves[..8.min(leaves.len())]));
    database.append(Entry::Log(log), intervals, edge, Some(range(8.min(leaves.len() as u64), &leaves)));
    database.run();
    read(database.files(), 0).0
}

fn is(found: &[String], expected: &str) {
    assert!(matches!(found, [one] if one.starts_with(expected)), "{expected:?} expected: {found:?}");
}

#[test]
fn nothing_is_said_against_what_only_grew() {
    assert_eq!(claimed(|_, _| {}), [] as [&str; 0]);
}

#[test]
fn red_team_b1_a_rewritten_log_that_is_longer_does_not_continue_the_one_before() {
    let rewritten = claimed(|log, leaves| {
        leaves[2] = leaf_hash(b"rewritten");
        log.root = frontier(leaves).1;
    });
    is(&rewritten, "3: checkpoint_mismatch: the growth leads to root");
}

#[test]
fn red_team_b2_an_epoch_keeps_what_was_before_or_says_that_it_is_lost() {
    let epoch = |restored: Option<Restored>, rewrite: bool| {
        claimed(|log, leaves| {
            (log.epoch, log.restored) = (1, restored);
            if rewrite {
                leaves[2] = leaf_hash(b"rewritten");
                log.root = frontier(leaves).1;
            }
        })
    };
    is(&epoch(None, true), "3: checkpoint_mismatch: epoch 1 does not follow");
    is(
        &epoch(Some(Restored::Entry(4)), true),
        "3: checkpoint_mismatch: the given edge leads to another root",
    );
    is(&epoch(Some(Restored::Nothing), true), "3: checkpoint_mismatch: the given edge leads to another root");
    assert_eq!(epoch(Some(Restored::Entry(4)), false), [] as [&str; 0]);
    // What begins with nothing says that all eight are lost.
    let mut database = database();
    database.restore(label(0), None, 9);
    database.run();
    assert_eq!(read(database.files(), 0), (Vec::new(), 8));
}

#[test]
fn red_team_a3_a_second_lineage_of_a_log_names_another_entry_than_the_newest() {
    for (previous, restored) in
        [(Some(1), None), (Some(2), None), (None, None), (Some(5), None), (Some(1), Some(Restored::Entry(1)))]
    {
        let found = claimed(|log, _| {
            (log.previous, log.restored) = (previous, restored);
            log.epoch = u32::from(restored.is_some());
        });
        is(&found, "3: checkpoint_mismatch: it names ");
    }
}

#[test]
fn a_log_that_shrank_or_stayed_or_skips_an_epoch_is_named() {
    let sized = |size: u64| {
        claimed(|log, leaves| {
            leaves.truncate(size as usize);
            (log.size, log.root) = (size, frontier(leaves).1);
        })
    };
    is(&sized(7), "3: tail_truncated: the log had 8 events, and has 7");
    is(&sized(8), "3: checkpoint_mismatch: the log had 8 events before");
    let skipped = claimed(|log, _| (log.epoch, log.restored) = (2, Some(Restored::Entry(4))));
    is(&skipped, "3: checkpoint_mismatch: epoch 2 does not follow");
    let to_another = |to| claimed(|log, _| (log.epoch, log.restored) = (1, Some(Restored::Entry(to))));
    for to in [0, 2, 5, 77] {
        is(&to_another(to), &format!("3: checkpoint_mismatch: the epoch continues entry {to}, which is no"));
    }
}

#[test]
fn intervals_that_are_not_the_growth_are_named() {
    let mut database = database();
    let mut leaves = database.logs[&label(0)].leaves.clone();
    leaves.push(leaf_hash(b"new"));
    let root = frontier(&leaves).1;
    let log = Log { label: label(0), epoch: 0, size: 9, root, previous: Some(4), restored: None };
    let intervals = vec![Interval { chain: 0, from: 8, to: 10 }];
    database.append(Entry::Log(log), intervals, None, Some(range(8, &leaves)));
    database.run();
    is(
        &read(database.files(), 0).0,
        "3: checkpoint_mismatch: the intervals hold 2 events and the log grew by 1",
    );
}

#[test]
fn red_team_a5_a_log_that_is_left_out_of_a_snapshot_is_missing() {
    let mut database = database();
    let missing = format!("3: tenant_missing: {}", label(1));
    let hidden = database.logs.remove(&label(1)).unwrap();
    database.snapshot();
    database.run();
    is(&read(database.files(), 0).0, &missing);
    // It may come back: then its entry must continue what it had.
    database.logs.insert(label(1), hidden);
    database.grow(label(1), 1);
    database.run();
    is(&read(database.files(), 0).0, &missing);
    // Who begins at the snapshot knows a label that begins in the middle.
    is(&read(database.files(), 2).0, "4: checkpoint_mismatch: it names 2 as the entry before, which is none");
}

#[test]
fn a_snapshot_states_what_is_newest_in_order_and_nothing_else() {
    let with = |change: &dyn Fn(&mut Database)| {
        let mut database = database();
        database.say(Entry::SnapshotBegin);
        change(&mut database);
        database.run();
        read(database.files(), 0).0
    };
    let count = |database: &mut Database| database.say(Entry::SnapshotEnd(0));
    let all = with(&count);
    assert!(all.len() == 3 && all.iter().all(|what| what.starts_with("3: tenant_missing: ")), "{all:?}");
    let counted = |database: &mut Database| database.say(Entry::SnapshotEnd(1));
    is(&with(&counted)[..1], "3: checkpoint_mismatch: the snapshot says that it has 1 logs, and has 0");
    let other = |database: &mut Database| {
        database.say(Entry::Close(label(0)));
        database.say(Entry::SnapshotEnd(0));
    };
    is(&with(&other)[..1], "3: checkpoint_mismatch: a snapshot is not whole");
    let never_ends = |_: &mut Database| {};
    is(&with(&never_ends), "3: checkpoint_mismatch: a snapshot is not whole");
}

#[test]
fn what_is_said_of_a_closed_or_unknown_log_is_named() {
    let said = |entry: Entry| {
        let mut database = database();
        database.close(label(2));
        database.say(entry);
        database.run();
        read(database.files(), 0).0
    };
    let (open, closed, unknown) = (label(0), label(2), label(9));
    let root = frontier(&database().logs[&open].leaves).1;
    for label in [closed, unknown] {
        for entry in [
            Entry::Erase { label, epoch: 0, leaf: 0, events: 1 },
            Entry::Purge { label, epoch: 0, minimum: 1, root },
            Entry::Close(label),
        ] {
            is(&said(entry), "3: checkpoint_mismatch: there is no open log with the label");
        }
    }
    assert_eq!(said(Entry::Erase { label: open, epoch: 0, leaf: 7, events: 1 }), [] as [&str; 0]);
    is(
        &said(Entry::Erase { label: open, epoch: 0, leaf: 8, events: 1 }),
        "3: checkpoint_mismatch: it is about no events",
    );
    assert_eq!(said(Entry::Purge { label: open, epoch: 0, minimum: 8, root }), [] as [&str; 0]);
    let other = frontier(&[]).1;
    let purge = Entry::Purge { label: open, epoch: 0, minimum: 8, root: other };
    is(&said(purge), "3: checkpoint_mismatch: the tree that is going to be purged");
    is(
        &said(Entry::Purge { label: open, epoch: 0, minimum: 9, root }),
        "3: checkpoint_mismatch: it is about no events",
    );
    is(
        &said(Entry::Erase { label: open, epoch: 1, leaf: 0, events: 1 }),
        "3: checkpoint_mismatch: epoch 1 does not",
    );
    let mut database = database();
    database.close(label(2));
    database.grow(label(2), 1);
    database.run();
    is(&read(database.files(), 0).0, "3: checkpoint_mismatch: there is no open log with the label");
}

#[test]
fn a_registry_begins_once_and_its_keys_have_its_name() {
    let said = |entry: Entry| {
        let mut database = database();
        database.say(entry);
        database.run();
        read(database.files(), 0).0
    };
    let key = |name: &str| Entry::Key(SigningKey::from_seed(name, &[8; 32]).unwrap().verifier_key());
    assert_eq!(said(key(ORIGIN)), [] as [&str; 0]);
    is(&said(key("log.example/other")), "3: checkpoint_mismatch: the key has another name");
    let after = Entry::After { origin: "log.example/old".into(), size: 1, root: frontier(&[]).1 };
    for entry in [Entry::Names(names().digest()), after] {
        is(&said(entry), "3: checkpoint_mismatch: the registry does not begin");
    }
}
