//! The paths that a Rust file names: its imports, and paths in the middle of code. Comments, doc links and strings are not code.
//!
//! A path is taken as written, then made absolute: `crate::`, `super::` and `self::`, modules that the file declares
//! (`mod child;`), and names that it imported (`use crate::shared::databases;`, then `databases::launch::begin()`). Nothing here
//! knows which modules there are, so a path may end in items: `crate::pg::call::Arguments`.

use std::collections::HashMap;

/// A path, from the crate's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its line, from 1.
    pub line: usize,
    /// Its segments, without `crate`.
    pub path: Vec<String>,
}

/// What follows from the text alone.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    Other(char),
}

/// Every path in `text`, which is the module `module`, that leads to a module of the same crate.
pub fn of(module: &[String], text: &str) -> Vec<Import> {
    let mut reader = Reader {
        tokens: tokens(text),
        at: 0,
        module: module.to_vec(),
        inline: Vec::new(),
        depth: 0,
        names: HashMap::new(),
        found: Vec::new(),
        later: Vec::new(),
    };
    reader.read();
    // A name may be used above the `use` that brings it.
    for Import { line, path } in std::mem::take(&mut reader.later) {
        if let Some(known) = path.first().and_then(|first| reader.names.get(first)) {
            let path = known.iter().chain(&path[1..]).cloned().collect();
            reader.found.push(Import { line, path });
        }
    }
    reader.found.sort_by_key(|import| import.line);
    reader.found
}

struct Reader {
    tokens: Vec<(Token, usize)>,
    at: usize,
    /// The module that the current token is in, modules in braces included.
    module: Vec<String>,
    /// At what depth each module in braces began.
    inline: Vec<usize>,
    depth: usize,
    /// What the file imported or declared, by name.
    names: HashMap<String, Vec<String>>,
    found: Vec<Import>,
    /// Paths that begin with a name.
    later: Vec<Import>,
}

impl Reader {
    fn read(&mut self) {
        while let Some((token, _)) = self.tokens.get(self.at).cloned() {
            match token {
                Token::Word(word) if word == "use" => {
                    self.at += 1;
                    self.tree(&mut Vec::new(), false);
                }
                Token::Word(word) if word == "mod" => self.declared(),
                Token::Word(_) => self.path_in_code(),
                Token::Other('{') => {
                    self.depth += 1;
                    self.at += 1;
                }
                Token::Other('}') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.inline.last() == Some(&self.depth) {
                        self.inline.pop();
                        self.module.pop();
                    }
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
    }

    /// `mod child;` or `mod child {`.
    fn declared(&mut self) {
        let Some(Token::Word(name)) = self.token(1) else {
            self.at += 1;
            return;
        };
        match self.token(2) {
            Some(Token::Other(';')) => {
                let path = self.module.iter().cloned().chain([name.clone()]).collect();
                self.names.insert(name, path);
                self.at += 3;
            }
            Some(Token::Other('{')) => {
                self.inline.push(self.depth);
                self.module.push(name);
                self.at += 2;
            }
            _ => self.at += 1,
        }
    }

    /// One branch of a `use`; `before` is what stands before its braces. Ends after it.
    fn tree(&mut self, before: &mut Vec<String>, absolute: bool) {
        let (length, line) = (before.len(), self.line());
        let mut known = absolute;
        let mut first = before.is_empty() && !absolute;
        loop {
            match self.token(0) {
                Some(Token::Word(word)) => {
                    self.at += 1;
                    known = self.segment(before, &word, first, known);
                    first = false;
                }
                Some(Token::Other('*')) => self.at += 1,
                Some(Token::Other('{')) => {
                    self.at += 1;
                    while !matches!(self.token(0), Some(Token::Other('}')) | None) {
                        self.tree(before, known);
                        if self.token(0) == Some(Token::Other(',')) {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    before.truncate(length);
                    return;
                }
                // `use ::krate::item` begins with colons.
                Some(Token::Colons) => {}
                _ => break,
            }
            if self.token(0) != Some(Token::Colons) {
                break;
            }
            self.at += 1;
        }
        let mut name = before.last().cloned();
        if self.token(0) == Some(Token::Word("as".to_owned())) {
            name = match self.token(1) {
                Some(Token::Word(name)) => Some(name),
                _ => None,
            };
            self.at += 2;
        }
        let path = before.clone();
        before.truncate(length);
        if !known {
            self.later.push(Import { line, path });
        } else {
            if let Some(name) = name {
                self.names.insert(name, path.clone());
            }
            self.found.push(Import { line, path });
        }
        // What is no path at all must not keep us here.
        if !matches!(self.token(0), Some(Token::Other(',' | '}' | ';')) | None) {
            self.at += 1;
        }
    }

    /// Adds a segment. Returns whether the path is known from the root.
    fn segment(&self, path: &mut Vec<String>, word: &str, first: bool, known: bool) -> bool {
        match word {
            "crate" if first => true,
            "self" if first => {
                path.clone_from(&self.module);
                true
            }
            // `use a::{self, b}`
            "self" => known,
            "super" => {
                if first {
                    path.clone_from(&self.module);
                }
                path.pop();
                true
            }
            _ => {
                path.push(word.to_owned());
                known
            }
        }
    }

    /// A path in the middle of code, or just a word.
    fn path_in_code(&mut self) {
        let line = self.line();
        // `pub(in crate::chain)`, `::krate::item` or `<T>::new`, `.collect::<T>()`: none of them begins a path of ours.
        let foreign = self.at.checked_sub(1).is_some_and(|before| match &self.tokens[before].0 {
            Token::Word(word) => word == "in" && before > 0 && self.tokens[before - 1].0 == Token::Other('('),
            Token::Colons | Token::Other('.') => true,
            Token::Other(_) => false,
        });
        let (mut path, mut words, mut known) = (Vec::new(), 0, false);
        while let Some(Token::Word(word)) = self.token(0) {
            self.at += 1;
            known = self.segment(&mut path, &word, words == 0, known);
            words += 1;
            if self.token(0) != Some(Token::Colons) {
                break;
            }
            self.at += 1;
        }
        if words > 1 && !foreign {
            if known { &mut self.found } else { &mut self.later }.push(Import { line, path });
        }
    }

    fn token(&self, ahead: usize) -> Option<Token> {
        self.tokens.get(self.at + ahead).map(|(token, _)| token.clone())
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(_, line)| *line)
    }
}

/// The tokens of `text` with their lines: no comments, no strings, no character literals, no numbers.
fn tokens(text: &str) -> Vec<(Token, usize)> {
    let (mut found, mut line, mut rest) = (Vec::new(), 1, text);
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            '\'' => quote(rest),
            'r' | 'b' | 'c' if literal(rest).is_some() => literal(rest).unwrap_or(1),
            ':' if rest.starts_with("::") => {
                found.push((Token::Colons, line));
                2
            }
            _ if next.is_alphanumeric() || next == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                if !next.is_numeric() {
                    found.push((Token::Word(rest[..end].to_owned()), line));
                }
                end
            }
            _ => {
                if !next.is_whitespace() {
                    found.push((Token::Other(next), line));
                }
                next.len_utf8()
            }
        };
        let (passed, after) = rest.split_at(length);
        line += passed.matches('\n').count();
        rest = after;
    }
    found
}

/// The length of the comment, and of those within it, that `text` begins with.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of the string that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the character literal, or of the lifetime's quote, that `text` begins with.
fn quote(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let after = at + escaped.len_utf8();
            text[after..].find('\'').map_or(1, |end| after + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// The length of a literal with a prefix, such as `b"..."`, `c"..."` or `r#"..."#`, if `text` begins with one.
fn literal(text: &str) -> Option<usize> {
    let prefix = text.find(|c| !matches!(c, 'r' | 'b' | 'c'))?;
    let raw = text[..prefix].contains('r');
    let hashes = text[prefix..].bytes().take_while(|byte| *byte == b'#').count();
    let body = prefix + hashes;
    match text.as_bytes().get(body)? {
        b'"' if raw => {
            let end = format!("\"{}", "#".repeat(hashes));
            text[body + 1..].find(&end).map(|at| body + 1 + at + end.len())
        }
        b'"' if hashes == 0 && prefix == 1 => Some(prefix + string(&text[prefix..])),
        b'\'' if &text[..prefix] == "b" => Some(prefix + quote(&text[prefix..])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::of;

    fn paths(module: &str, text: &str) -> Vec<String> {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        of(&module, text)
            .into_iter()
            .map(|import| format!("{}:{}", import.line, import.path.join("::")))
            .collect()
    }

    #[test]
    fn groups_are_taken_apart() {
        let text = "use crate::{\n    a::{b, c::{self, D as E}},\n    f,\n};\nuse crate::g::*;";
        assert_eq!(paths("m", text), ["2:a::b", "2:a::c", "2:a::c::D", "3:f", "5:g"]);
    }

    #[test]
    fn paths_in_the_middle_of_code_count() {
        let text =
            "fn f() -> crate::a::B {\n    crate::c::d(&super::e::F)\n}\nimpl $crate::g::H for self::I {}";
        assert_eq!(paths("m::n", text), ["1:a::B", "2:c::d", "2:m::e::F", "4:g::H", "4:m::n::I"]);
    }

    #[test]
    fn super_is_the_module_around_and_self_the_module_itself() {
        let text = "use super::{a, b::C};\nuse super::super::d;\nmod inner {\n    use super::{e, super::f};\n}\nuse super::g;";
        assert_eq!(paths("m::n", text), ["1:m::a", "1:m::b::C", "2:d", "4:m::n::e", "4:m::f", "6:m::g"]);
    }

    #[test]
    fn names_that_were_imported_or_declared_lead_on() {
        let text = "mod child;\nuse child::A;\nuse crate::x::{self, y as z};\nfn f() { child::b(); x::c(); z::d(); w::e(); v.x::<u8>() }";
        assert_eq!(
            paths("m", text),
            ["2:m::child::A", "3:x", "3:x::y", "4:m::child::b", "4:x::c", "4:x::y::d"]
        );
    }

    #[test]
    fn comments_doc_links_and_strings_are_no_imports() {
        let text = "//! See [`crate::a`].\n/// [`super::b`]\n/* crate::c /* crate::d */ crate::e */\nconst S: &str = \"crate::f \\\" crate::g\";\n\
                    const R: &str = r#\"crate::h \" \"#; const B: &[u8] = b\"crate::i\"; const C: char = '\"'; fn f<'a>(x: &'a crate::j::K) {}";
        assert_eq!(paths("m", text), ["5:j::K"]);
    }

    #[test]
    fn other_crates_and_visibility_are_no_imports() {
        let text = "use std::fmt;\nuse pgrx::{pg_sys, PgBox};\npub(crate) fn f() {}\npub(in crate::a) fn g() { ::std::mem::take(h) }\npub(super) fn i() {}\nfn j(self) { self.k::<L>().super_m() }";
        assert_eq!(paths("m::n", text), [""; 0]);
    }
}
