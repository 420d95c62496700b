//! What is a bundle and what is none.

use alloc::string::ToString;
use alloc::vec;

use proptest::collection::vec as any_vec;
use proptest::prelude::*;

use super::*;
use crate::merkle::leaf_hash;

fn digest(number: u8) -> Digest {
    leaf_hash(&[number])
}

fn anchor(kind: &str) -> Anchor {
    Anchor {
        kind: kind.into(),
        tree_size: 12,
        root: digest(9),
        consistency: vec![digest(3)],
        payload: "{\"a\":1}".into(),
    }
}

fn bundle() -> Bundle {
    Bundle {
        index: 7,
        path: vec![digest(1), digest(2)],
        extra: None,
        log: None,
        checkpoint: "o/a\n12\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} o/a AAAAAAAA\n".into(),
        event: Some("{\"tenant_id\":\"a\"}".into()),
        anchors: vec![anchor("file"), anchor("evm")],
    }
}

#[test]
fn a_bundle_has_the_form_that_is_documented() {
    let b64 = |number| STANDARD.encode(digest(number).as_bytes());
    let one = |kind: &str| {
        let (root, consistency) = (b64(9), b64(3));
        format!("--- anchor {kind}\ntree 12 {root}\nconsistency\n{consistency}\npayload\n{{\"a\":1}}\n")
    };
    let (first, second, checkpoint) = (b64(1), b64(2), bundle().checkpoint);
    let text = format!(
        "c2sp.org/tlog-proof@v1\nindex 7\n{first}\n{second}\n\n{checkpoint}--- event\n{{\"tenant_id\":\"a\"}}\n{}{}",
        one("file"),
        one("evm")
    );
    assert_eq!(bundle().format(), text);
    assert_eq!(Bundle::parse(text.as_bytes()), Ok(bundle()));
}

#[test]
fn a_tlog_proof_alone_is_read_too() {
    let mut alone = bundle();
    alone.event = None;
    alone.anchors.clear();
    alone.extra = Some(b"extra".to_vec());
    assert_eq!(alone.format(), alone.tlog_proof());
    assert_eq!(Bundle::parse(alone.format().as_bytes()), Ok(alone));
}

#[test]
fn a_bundle_that_is_cut_off_within_a_line_is_no_bundle() {
    let text = bundle().format();
    for length in 0..text.len() {
        match Bundle::parse(&text.as_bytes()[..length]) {
            // A whole number of sections is a bundle; that one was cut off is for the signatures to show.
            Ok(read) => assert!(text.as_bytes()[length - 1] == b'\n' && text.starts_with(&read.format())),
            Err(error) => assert!(matches!(error.what, What::Truncated | What::NotUtf8), "{length}: {error}"),
        }
    }
}

/// The error of the whole bundle with `from` replaced, and the line that it is in.
fn error(from: &str, to: &str) -> (What, usize) {
    let text = bundle().format();
    assert!(text.contains(from), "{from}");
    let error = Bundle::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
    (error.what, error.line)
}

#[test]
fn what_is_malformed_is_named_with_its_line() {
    let hash = STANDARD.encode(digest(1).as_bytes());
    assert_eq!(error("tlog-proof@v1", "tlog-proof@v2"), (What::Header, 1));
    assert_eq!(error("index 7", "index 07"), (What::Index, 2));
    assert_eq!(error("index 7", "extra A\nindex 7"), (What::Extra, 2));
    assert_eq!(error("index 7", "extra AAAA\nindex x"), (What::Index, 3));
    assert_eq!(error(&hash, &hash[1..]), (What::Path, 3));
    assert_eq!(
        error(&hash, &format!("{}{hash}", format!("{hash}\n").repeat(MAX_PATH))),
        (What::Path, 3 + MAX_PATH)
    );
    assert_eq!(error("--- event", "--- other"), (What::Section, 11));
    assert_eq!(error("--- event\n", "--- event\n\n"), (What::Event, 12));
    assert_eq!(error("--- anchor file", "--- event"), (What::Section, 13));
    assert_eq!(error("--- anchor file", "--- anchor File"), (What::Section, 13));
    assert_eq!(error("--- anchor file", "x"), (What::Section, 13));
    assert_eq!(error("tree 12", "tree x"), (What::Anchor, 14));
    assert_eq!(error("consistency", "consistent"), (What::Anchor, 15));
    assert_eq!(error("payload\n{", "batch 17 1\n{"), (What::Path, 17));
    assert_eq!(error("payload\n{\"a\":1}", "payload\n"), (What::Anchor, 18));
    assert_eq!(error("index 7", "index 7\r"), (What::Control, 2));
    assert_eq!(error("{\"tenant_id", "{\0\"tenant_id"), (What::Control, 12));
}

#[test]
fn what_is_no_text_is_named_with_its_line_and_byte() {
    let mut bytes = bundle().format().into_bytes();
    bytes[30] = 0xff;
    assert_eq!(Bundle::parse(&bytes), Err(Error { line: 2, offset: 30, what: What::NotUtf8 }));
    let mut with_mark = b"\xef\xbb\xbf".to_vec();
    with_mark.extend_from_slice(bundle().format().as_bytes());
    assert_eq!(Bundle::parse(&with_mark).unwrap_err().what, What::Header);
}

#[test]
fn more_than_the_limits_is_refused() {
    let mut many = bundle();
    many.anchors = vec![anchor("file"); MAX_ANCHORS];
    assert_eq!(Bundle::parse(many.format().as_bytes()).as_ref(), Ok(&many));
    many.anchors.push(anchor("file"));
    assert_eq!(Bundle::parse(many.format().as_bytes()).unwrap_err().what, What::Section);

    let mut long = bundle();
    long.checkpoint = "x".repeat(note::MAX_BYTES);
    assert_eq!(Bundle::parse(format!("{}\n", long.format()).as_bytes()).unwrap_err().what, What::Checkpoint);

    let mut payload = bundle();
    payload.anchors[0].payload = "x".repeat(anchor::MAX_PAYLOAD + 1);
    assert_eq!(Bundle::parse(payload.format().as_bytes()).unwrap_err().what, What::Anchor);

    let mut extra = bundle();
    extra.extra = Some(vec![0; MAX_EXTRA + 3]);
    assert_eq!(Bundle::parse(extra.format().as_bytes()).unwrap_err().what, What::Extra);
}

#[test]
fn an_event_among_ten_million_is_proven_in_two_kilobytes() {
    let key = crate::note::SigningKey::from_seed("log.example/audit", &[1; 32]).unwrap();
    let origin = "log.example/audit/some-tenant".to_string();
    let checkpoint = crate::checkpoint::Checkpoint { origin, size: 10_000_000, root: digest(0) };
    let checkpoint = checkpoint.sign(&key, 1_795_253_400).unwrap();
    let path = vec![digest(1); 24];
    let proof =
        Bundle { index: 9_999_999, path, extra: None, checkpoint, log: None, event: None, anchors: vec![] };
    assert!(proof.format().len() <= 2048, "{}", proof.format().len());
}

proptest! {
    #[test]
    fn every_bundle_is_read_back(
        index in any::<u64>(),
        path in any_vec(any::<[u8; 32]>().prop_map(Digest::new), 0..65),
        extra in prop::option::of(any_vec(any::<u8>(), 0..100)),
        event in prop::option::of("\\{[^\\x00-\\x1f]{0,40}"),
        tree_size in any::<u64>(),
        anchors in 0..3usize,
    ) {
        let anchors = match event {
            Some(_) => vec![Anchor { tree_size, consistency: path.clone(), ..anchor("a-1") }; anchors],
            None => vec![],
        };
        let bundle = Bundle { index, path, extra, event, anchors, ..bundle() };
        prop_assert_eq!(Bundle::parse(bundle.format().as_bytes()), Ok(bundle));
    }
}
