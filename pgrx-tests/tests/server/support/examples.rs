//! Examples in documents: the fenced blocks, and whether what they print is what the document shows.
//!
//! CONTRIBUTING.md has the notation for readers. Compared is what matters to them: words and numbers, not what is another one each
//! time, nor how wide psql makes a column.

use std::sync::OnceLock;

use regex::Regex;

/// Who runs a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    Psql,
    Shell,
}

/// A block to be run, and what it must print.
#[derive(Debug)]
pub struct Example {
    pub runner: Runner,
    /// Line of the document where the block begins.
    pub line: usize,
    pub code: String,
    /// None: it must only not fail.
    pub expected: Option<String>,
    /// Run it again until it prints what is expected.
    pub wait: bool,
}

/// The blocks of a document that can be run, in their order.
pub fn examples(document: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut mark = None;
    // Whether the last block that was run still waits for its output.
    let mut open = false;
    let mut lines = document.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(word) = line.strip_prefix("<!-- example: ").and_then(|rest| rest.strip_suffix(" -->")) {
            assert!(matches!(word, "wait" | "not run"), "line {}: no such mark: {word}", at + 1);
            mark = Some(word);
            continue;
        }
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let code: String = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .flat_map(|line| [line, "\n"])
            .collect();
        let skipped = mark == Some("not run");
        match language {
            "sql" | "sh" if !skipped => {
                let runner = if language == "sql" { Runner::Psql } else { Runner::Shell };
                found.push(Example {
                    runner,
                    line: at + 1,
                    code,
                    expected: None,
                    wait: mark == Some("wait"),
                });
                open = true;
            }
            "text" if open && !skipped => {
                found.last_mut().unwrap().expected = Some(code);
                open = false;
            }
            _ => open = false,
        }
        mark = None;
    }
    found
}

/// Whether `printed` is what the document shows.
pub fn matches(expected: &str, printed: &str) -> bool {
    let (expected, printed) = (normalised(expected), normalised(printed));
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let printed: Vec<&str> = printed.iter().map(String::as_str).collect();
    lines_match(&expected, &printed)
}

fn lines_match(expected: &[&str], printed: &[&str]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((&"..", rest)) => (0..=printed.len()).any(|n| lines_match(rest, &printed[n..])),
        Some((line, rest)) => {
            printed.split_first().is_some_and(|(p, left)| line_matches(line, p) && lines_match(rest, left))
        }
    }
}

/// `..` in the expected line is any text.
fn line_matches(expected: &str, printed: &str) -> bool {
    let parts: Vec<&str> = expected.split("..").collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    if parts.len() == 1 {
        return printed == expected;
    }
    let Some(mut rest) = printed.strip_prefix(first.trim_end()) else { return false };
    for part in &parts[1..parts.len() - 1] {
        match rest.find(part.trim()) {
            Some(at) => rest = &rest[at + part.trim().len()..],
            None => return false,
        }
    }
    rest.ends_with(last.trim_start())
}

/// Lines without what differs each time, and without what only lays them out; empty ones left out.
fn normalised(text: &str) -> Vec<String> {
    static MASKS: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let masks = MASKS.get_or_init(|| {
        [
            (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:\d\d)?)?", "<time>"),
            (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uuid>"),
            (r"(\\x|\b0x)?\b[0-9a-f]{8,}\b", "<hex>"),
            (r"\b[A-Za-z0-9+/]{40,}=*", "<base64>"),
            (r"\bpid \d+", "pid <n>"),
            // The line below a psql header, and runs of spaces.
            (r"^[-+]{3,}$", "---"),
            (r"\s+", " "),
        ]
        .map(|(pattern, word)| (Regex::new(pattern).unwrap(), word))
        .into()
    });
    text.lines()
        .map(|line| {
            masks.iter().fold(line.trim().to_owned(), |line, (mask, word)| {
                mask.replace_all(&line, *word).into_owned()
            })
        })
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn a_document_s_blocks_are_found_with_their_output() {
    let found = examples(
        "# T\n```sql\nSELECT 1;\n```\n\nis\n\n```text\n1\n```\n<!-- example: wait -->\n```sh\ntrue\n```\n```json\n{}\n```\n<!-- example: not run -->\n```sql\nDROP\n```\n```text\nx\n```\n",
    );
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!((found[0].runner, found[0].line, found[0].wait), (Runner::Psql, 2, false));
    assert_eq!((found[0].code.as_str(), found[0].expected.as_deref()), ("SELECT 1;\n", Some("1\n")));
    assert_eq!((found[1].runner, found[1].wait, found[1].expected.as_deref()), (Runner::Shell, true, None));
}

#[test]
fn what_differs_each_time_is_not_compared_and_everything_else_is() {
    let shown = " at | x\n----+---\n 2026-11-30 05:44:10 | 9f86d081884c7d65\n(1 row)\n";
    assert!(matches(
        shown,
        " at   |  x\n-----+-----\n 2027-01-01 00:00:00.5+01 | 00000000deadbeef\n\n(1 row)\n"
    ));
    assert!(!matches(shown, " at | x\n----+---\n 2026-11-30 05:44:10 | none\n(1 row)\n"));
    assert!(
        matches("a ..\n..\nz\n", "a b c\n1\n2\nz\n") && matches("a .. c\n", "a b c\n") && matches("..\n", "")
    );
    assert!(!matches("a .. c\n", "a b d\n") && !matches("a\n", "a b\n") && !matches("a\n", "a\nb\n"));
    assert!(!matches("4711", "4712"));
}
