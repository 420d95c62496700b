//! The file as bytes: what may be cut off, and that nothing may be changed.

use zeroauth_audit_anchor::batch::{Batch, Moment};
use zeroauth_audit_anchor::file::entry::{Error, NOTHING, line, read};
use zeroauth_audit_anchor::machine::Phase;

use super::{Folder, batch, key};

fn file(batches: &[Batch]) -> Vec<u8> {
    let (mut bytes, mut link) = (String::new(), NOTHING);
    for batch in batches {
        let line = line(batch, Moment(5), link, &key(1));
        link = zeroauth_audit_anchor::Hash::sha256(line.as_bytes());
        bytes.push_str(&line);
        bytes.push('\n');
    }
    bytes.into_bytes()
}

#[test]
fn a_writer_that_died_anywhere_in_a_line_costs_nothing_but_that_line() {
    let whole = file(&[batch(1), batch(2)]);
    let first = file(&[batch(1)]).len();
    for cut in 0..whole.len() {
        let folder = Folder::make();
        std::fs::write(folder.path(), &whole[..cut]).unwrap();
        let contents = folder.contents();
        // A line without its newline is a line: it may have been written to its end.
        let entries = usize::from(cut >= first - 1) + usize::from(cut >= whole.len() - 1);
        assert_eq!(contents.entries.len(), entries, "cut at {cut}");
        if !cut.is_multiple_of(37) && !(first - 2..first + 2).contains(&cut) && cut < whole.len() - 2 {
            continue;
        }
        // What is cut off is anchored again, and what was there is left as it is.
        for epoch in entries as u64 + 1..4 {
            assert_eq!(folder.anchor(&batch(epoch)).0.phase, Phase::Finalized, "cut at {cut}");
        }
        let bytes = folder.bytes();
        assert!(bytes.starts_with(&whole[..cut]), "cut at {cut}");
        let epochs: Vec<u64> = folder.contents().entries.iter().map(|entry| entry.batch.epoch).collect();
        assert_eq!(epochs, [1, 2, 3], "cut at {cut}");
    }
}

#[test]
fn no_changed_byte_makes_another_entry() {
    let keys = [key(1).verifier_key()];
    let whole = file(&[batch(1), batch(2)]);
    let entries = read(&whole, &keys).unwrap().entries;
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            // In the last line it may look like the beginning of a line; anywhere else the next entry gives it away.
            if let Ok(contents) = read(&bytes, &keys) {
                assert!(
                    contents.entries.len() < 2 && entries.starts_with(&contents.entries),
                    "bit {bit} at {at}"
                );
            }
        }
    }
}

#[test]
fn an_epoch_that_the_key_itself_signed_twice_is_found() {
    let keys = [key(1).verifier_key()];
    for epoch in [1, 2] {
        let again = Batch { size: 1, ..batch(epoch) };
        let bytes = file(&[batch(1), batch(2), again]);
        assert_eq!(read(&bytes, &keys), Err(Error::EpochNotRising { line: 3 }));
    }
}

#[test]
fn an_empty_file_is_whole() {
    let contents = read(b"", &[]).unwrap();
    assert_eq!((contents.entries.len(), contents.is_ended, contents.link()), (0, true, NOTHING));
}
