//! Random histories have nothing wrong, wherever a reader begins; with any line of them changed they have.

use proptest::prelude::*;

use super::history::{Database, label, read};

#[derive(Clone, Debug)]
enum Step {
    Grow(u8, u64),
    /// To the state so many entries of the log ago; none left: to nothing.
    Restore(u8, usize, u64),
    Close(u8),
    Snapshot,
    Run,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..6_u8, 1..40_u64).prop_map(|(tenant, events)| Step::Grow(tenant, events)),
        1 => (0..6_u8, 0..5_usize, 0..20_u64).prop_map(|(tenant, back, events)| Step::Restore(tenant, back, events)),
        1 => (0..6_u8).prop_map(Step::Close),
        1 => Just(Step::Snapshot),
        4 => Just(Step::Run),
    ]
}

/// The history, the files that begin with a snapshot, and what restores have lost.
fn made(steps: &[Step]) -> (Database, Vec<usize>, u64) {
    let mut database = Database::new();
    let (mut closed, mut snapshots, mut lost) = (Vec::new(), Vec::new(), 0);
    for step in steps {
        match step {
            Step::Grow(tenant, events) if !closed.contains(tenant) => database.grow(label(*tenant), *events),
            Step::Restore(tenant, back, events) => {
                let Some(known) = database.logs.get(&label(*tenant)) else { continue };
                let to = known.trees.iter().rev().nth(*back);
                let tree = to.map(|(_, leaves)| leaves.clone()).unwrap_or_default();
                // A tree of no event is stated nowhere.
                if tree.len() + *events as usize == 0 {
                    continue;
                }
                let kept = tree.iter().zip(&known.leaves).take_while(|(a, b)| a == b).count();
                lost += (known.leaves.len() - kept) as u64;
                let to = to.map(|(index, _)| *index);
                database.restore(label(*tenant), to, *events);
            }
            Step::Close(tenant) if database.logs.contains_key(&label(*tenant)) => {
                closed.push(*tenant);
                database.close(label(*tenant));
            }
            Step::Snapshot => {
                database.run();
                snapshots.push(database.files().len());
                database.snapshot();
                database.run();
            }
            Step::Run => database.run(),
            Step::Grow(..) | Step::Close(_) => {}
        }
    }
    database.run();
    (database, snapshots, lost)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_history_of_growth_restores_and_snapshots_has_nothing_wrong(steps in prop::collection::vec(step(), 1..60)) {
        let (database, snapshots, lost) = made(&steps);
        prop_assert_eq!(read(database.files(), 0), (Vec::new(), lost));
        for first in snapshots {
            prop_assert_eq!(read(database.files(), first).0, [] as [&str; 0]);
        }
    }

    #[test]
    fn a_change_of_any_line_is_seen(
        steps in prop::collection::vec(step(), 1..30),
        place in any::<prop::sample::Index>(),
        how in 0..4_u8,
    ) {
        let (database, ..) = made(&steps);
        let mut files = database.files().to_vec();
        let places: Vec<(usize, usize)> = files.iter().enumerate()
            .flat_map(|(file, text)| (0..text.lines().count()).map(move |line| (file, line)))
            .collect();
        let (file, line) = places[place.index(places.len())];
        let mut lines: Vec<String> = files[file].lines().map(Into::into).collect();
        match how {
            0 => lines[line].push('x'),
            1 => { lines.remove(line); }
            2 => { let again = lines[line].clone(); lines.insert(line, again); }
            _ => {
                let other: String = lines[line].chars().map(|c| match c { '0'..='8' => (c as u8 + 1) as char, '9' => '8', 'a' => 'b', 'A' => 'B', c => c }).collect();
                lines[line] = other;
            }
        }
        let changed = lines.join("\n") + "\n";
        prop_assume!(changed != files[file]);
        // Nothing vouches for who wrote a file but the next one.
        prop_assume!(file + 1 < files.len() || line != 3);
        // A signature whose key id was changed is one of somebody else.
        prop_assume!(!files[file].lines().nth(line).unwrap().starts_with('\u{2014}'));
        files[file] = changed;
        prop_assert!(!read(&files, 0).0.is_empty(), "file {file}, line {line}");
    }
}
