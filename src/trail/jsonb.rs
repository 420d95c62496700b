//! `jsonb::text` of a stored value, written straight from its bytes.
//!
//! PostgreSQL's own function copies the value to align it, copies every string to end it with a zero, and calls a function for
//! every number: more than half of what an insert spent on its details. Here anything that is not plain is left to that function
//! (`None`): a text longer than the buffer, a number in the long form, deep nesting, and any value with an unexpected layout.
//!
//! The layout is that of `utils/jsonb.h` and `numeric.c`, unchanged since PostgreSQL 9.4; the output is that of
//! `JsonbToCString`, byte for byte. Nothing here is unsafe or calls PostgreSQL.

use heapless::Vec;

/// Longest text written here.
const ROOM: usize = 2048;
/// Deepest nesting written here.
const DEPTH: usize = 16;

/// Room for a text, so that it needs no allocation.
pub type Text = Vec<u8, ROOM>;

// Header of a container.
const COUNT: u32 = 0x0FFF_FFFF;
const SCALAR: u32 = 0x1000_0000;
const OBJECT: u32 = 0x2000_0000;
const ARRAY: u32 = 0x4000_0000;

// Entry of a child.
const OFFSET_OR_LENGTH: u32 = 0x0FFF_FFFF;
const TYPE: u32 = 0x7000_0000;
const HAS_OFFSET: u32 = 0x8000_0000;
const STRING: u32 = 0x0000_0000;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;

/// Writes the text of the jsonb whose bytes, without the length in front, are `stored`; `None` leaves it to PostgreSQL.
pub fn write(stored: &[u8], out: &mut Text) -> Option<()> {
    out.clear();
    container(stored, out, 0)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The entries of a container, read in order.
struct Children<'a> {
    stored: &'a [u8],
    /// Where the values begin, after the entries.
    values: usize,
    next: usize,
    /// End of the value before, counted from `values`.
    end: usize,
}

impl<'a> Children<'a> {
    fn next(&mut self) -> Option<Child<'a>> {
        let entry = word(self.stored, 4 + 4 * self.next)?;
        let field = (entry & OFFSET_OR_LENGTH) as usize;
        let start = self.end;
        // Every 32nd entry says where its value ends, the others how long it is.
        self.end = if entry & HAS_OFFSET != 0 { field } else { start + field };
        self.next += 1;
        // Numbers and containers begin at a multiple of four.
        let begin =
            if matches!(entry & TYPE, NUMERIC | CONTAINER) { start.next_multiple_of(4) } else { start };
        let bytes = self.stored.get(self.values + begin..self.values + self.end)?;
        Some(Child { kind: entry & TYPE, bytes })
    }
}

struct Child<'a> {
    kind: u32,
    bytes: &'a [u8],
}

fn container(stored: &[u8], out: &mut Text, depth: usize) -> Option<()> {
    if depth == DEPTH {
        return None;
    }
    let header = word(stored, 0)?;
    let count = (header & COUNT) as usize;
    let entries = if header & OBJECT != 0 { count.checked_mul(2)? } else { count };
    let children = |next, end| Children { stored, values: 4 + 4 * entries, next, end };
    if header & OBJECT != 0 {
        // All keys come first, then all values.
        let mut keys = children(0, 0);
        let mut values = children(count, end_of(stored, count)?);
        put(out, b"{")?;
        for n in 0..count {
            if n > 0 {
                put(out, b", ")?;
            }
            let key = keys.next().filter(|key| key.kind == STRING)?;
            quoted(key.bytes, out)?;
            put(out, b": ")?;
            value(&values.next()?, out, depth)?;
        }
        put(out, b"}")
    } else if header & SCALAR != 0 {
        value(&children(0, 0).next()?, out, depth)
    } else if header & ARRAY != 0 {
        let mut elements = children(0, 0);
        put(out, b"[")?;
        for n in 0..count {
            if n > 0 {
                put(out, b", ")?;
            }
            value(&elements.next()?, out, depth)?;
        }
        put(out, b"]")
    } else {
        None
    }
}

/// Where the values of the first `count` entries end.
fn end_of(stored: &[u8], count: usize) -> Option<usize> {
    let mut end = 0;
    for n in (0..count).rev() {
        let entry = word(stored, 4 + 4 * n)?;
        end += (entry & OFFSET_OR_LENGTH) as usize;
        if entry & HAS_OFFSET != 0 {
            break;
        }
    }
    Some(end)
}

fn value(child: &Child<'_>, out: &mut Text, depth: usize) -> Option<()> {
    match child.kind {
        STRING => quoted(child.bytes, out),
        NUMERIC => numeric(child.bytes, out),
        TRUE => put(out, b"true"),
        FALSE => put(out, b"false"),
        NULL => put(out, b"null"),
        CONTAINER => container(child.bytes, out, depth + 1),
        _ => None,
    }
}

#[inline(always)]
fn put(out: &mut Text, bytes: &[u8]) -> Option<()> {
    out.extend_from_slice(bytes).ok()
}

/// As `escape_json` does it. Most strings are short and have nothing to escape: eight bytes are tested and copied at once.
fn quoted(text: &[u8], out: &mut Text) -> Option<()> {
    put(out, b"\"")?;
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        if is_plain(u64::from_ne_bytes(*word)) {
            put(out, word)?;
        } else {
            word.iter().try_for_each(|&byte| escaped(byte, out))?;
        }
    }
    rest.iter().try_for_each(|&byte| escaped(byte, out))?;
    put(out, b"\"")
}

/// Whether none of eight bytes is to be escaped.
fn is_plain(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // The high bit of some byte is set if any byte is less than `bound`, which is at most 128; of none otherwise.
    let any_below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH;
    let any_is = |byte: u8| any_below(word ^ (ONES * u64::from(byte)), 1);
    any_below(word, b' ') | any_is(b'"') | any_is(b'\\') == 0
}

fn escaped(byte: u8, out: &mut Text) -> Option<()> {
    match byte {
        b'"' => put(out, b"\\\""),
        b'\\' => put(out, b"\\\\"),
        b' '.. => out.push(byte).ok(),
        0x08 => put(out, b"\\b"),
        0x0C => put(out, b"\\f"),
        b'\n' => put(out, b"\\n"),
        b'\r' => put(out, b"\\r"),
        b'\t' => put(out, b"\\t"),
        _ => {
            let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit & 15)];
            put(out, &[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)])
        }
    }
}

/// As `numeric_out` does it, for the short form: base 10,000, all that fits 63 such digits before the point and 63 places after it.
fn numeric(stored: &[u8], out: &mut Text) -> Option<()> {
    const FORM: u16 = 0xC000;
    const SHORT: u16 = 0x8000;
    let half = |at: usize| Some(u16::from_ne_bytes(*stored.get(at..)?.first_chunk()?));
    // The length comes first: four bytes, uncompressed.
    let header = half(4)?;
    if header & FORM != SHORT {
        return None;
    }
    let negative = header & 0x2000 != 0;
    let scale = usize::from(header >> 7 & 0x3F);
    let weight = i32::from(header & 0x3F) - if header & 0x40 != 0 { 64 } else { 0 };
    let digits = &stored[6..];
    // Group `n` of four digits, the first being number 0; zeros at both ends are not stored.
    let group = |n: i32| {
        let at = usize::try_from(n).ok()? * 2;
        Some(u16::from_ne_bytes(*digits.get(at..)?.first_chunk()?))
    };
    let decimal = |n: i32| {
        let group = group(n).unwrap_or(0);
        [group / 1000, group / 100 % 10, group / 10 % 10, group % 10].map(|digit| b'0' + digit as u8)
    };
    if negative {
        put(out, b"-")?;
    }
    if weight < 0 {
        put(out, b"0")?;
    }
    for n in 0..=weight {
        let text = decimal(n);
        let zeros = if n == 0 { text[..3].iter().take_while(|&&digit| digit == b'0').count() } else { 0 };
        put(out, &text[zeros..])?;
    }
    if scale > 0 {
        put(out, b".")?;
        let groups = scale.div_ceil(4);
        for n in 0..groups {
            let shown = (scale - 4 * n).min(4);
            put(out, &decimal(weight + 1 + n as i32)[..shown])?;
        }
    }
    Some(())
}
