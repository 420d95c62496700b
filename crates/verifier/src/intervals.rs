//! The intervals of a database's logs: JSON Lines as `audit_export_intervals()` gives them.
//!
//! They are unsigned. That is no harm: with other intervals the root of a checkpoint comes out otherwise.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use serde::Deserialize;
use zeroauth_audit_core::intervals::{self, Interval};

use crate::input::{self, Lines, Place};
use crate::verdict::Trouble;

/// Bytes of a line at most.
pub const MAX_LINE: usize = 4096;

/// The intervals of a log in the order of its leaves, each with the size of the log with its checkpoint. Every chain's intervals
/// follow on each other, and the sizes are those that the intervals add up to.
pub type Log = Vec<(u64, Interval)>;

/// The logs of a tenant by epoch.
pub type Logs = BTreeMap<u64, Log>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    // Borrowed where nothing is escaped.
    #[serde(borrow)]
    tenant_id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    epoch: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    tree_size: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    chain: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    from: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    to: std::borrow::Cow<'a, str>,
}

/// Reads the file `name`; memory is 32 bytes for each line.
///
/// # Errors
/// The first line that is malformed or does not follow on those before.
pub fn read(source: impl Read, name: &str) -> Result<HashMap<String, Logs>, Trouble> {
    let mut lines = Lines::new(source, MAX_LINE);
    let mut tenants: HashMap<String, Logs> = HashMap::new();
    let mut last: Option<(String, u64, Place)> = None;
    let trouble = |place: Option<Place>, at: usize, what: String| Trouble {
        file: name.into(),
        line: place.map(|place| place.line),
        byte: place.map(|place| place.byte + at as u64),
        what,
    };
    loop {
        let (place, line) = match lines.next_line() {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) => {
                let place = match error {
                    input::Error::TooLong(place, _) | input::Error::Truncated(place) => Some(place),
                    input::Error::Io(_) => None,
                };
                return Err(trouble(place, 0, error.to_string()));
            }
        };
        let read: Line<'_> = serde_json::from_slice(line).map_err(|error| {
            trouble(Some(place), error.column().saturating_sub(1), format!("no interval: {error}"))
        })?;
        let (epoch, size, interval) = numbers(&read)
            .ok_or_else(|| trouble(Some(place), 0, "a number of the interval is malformed".into()))?;
        if let Some((tenant, of_epoch, before)) = &last
            && (tenant.as_str(), *of_epoch) != (&*read.tenant_id, epoch)
        {
            check(&tenants[tenant][of_epoch]).map_err(|what| trouble(Some(*before), 0, what))?;
            if tenants.get(&*read.tenant_id).is_some_and(|logs| logs.contains_key(&epoch)) {
                return Err(trouble(Some(place), 0, "the log of this tenant and epoch ended before".into()));
            }
        }
        let logs = match tenants.get_mut(&*read.tenant_id) {
            Some(logs) => logs,
            None => tenants.entry(read.tenant_id.clone().into_owned()).or_default(),
        };
        logs.entry(epoch).or_default().push((size, interval));
        match &mut last {
            Some((tenant, of_epoch, at)) if tenant.as_str() == &*read.tenant_id => {
                (*of_epoch, *at) = (epoch, place)
            }
            last => *last = Some((read.tenant_id.into_owned(), epoch, place)),
        }
    }
    if let Some((tenant, epoch, place)) = &last {
        check(&tenants[tenant][epoch]).map_err(|what| trouble(Some(*place), 0, what))?;
    }
    Ok(tenants)
}

fn numbers(line: &Line<'_>) -> Option<(u64, u64, Interval)> {
    let signed = |text: &str| text.parse::<i64>().ok().filter(|number| number.to_string() == text);
    let unsigned = |text: &str| u64::try_from(signed(text)?).ok();
    let chain = i16::try_from(signed(&line.chain)?).ok()?;
    let interval = Interval { chain, from: signed(&line.from)?, to: signed(&line.to)? };
    Some((unsigned(&line.epoch)?, unsigned(&line.tree_size)?, interval))
}

/// Whether these are all intervals of a log, in its order.
fn check(log: &Log) -> Result<(), String> {
    let mut before = 0;
    let mut ends: HashMap<i16, i64> = HashMap::new();
    for of_checkpoint in log.chunk_by(|a, b| a.0 == b.0) {
        let size = of_checkpoint[0].0;
        if size <= before {
            return Err(format!("the log has {size} leaves after it had {before}"));
        }
        let of_it: Vec<Interval> = of_checkpoint.iter().map(|(_, interval)| *interval).collect();
        intervals::check(&of_it, before, size).map_err(|error| error.to_string())?;
        for interval in &of_it {
            let end = ends.insert(interval.chain, interval.to).unwrap_or(0);
            if end != interval.from {
                let Interval { chain, from, .. } = interval;
                return Err(format!(
                    "an interval of chain {chain} begins after {from}, and the one before ended with {end}"
                ));
            }
        }
        before = size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(tenant: &str, numbers: [i64; 5]) -> String {
        let [epoch, size, chain, from, to] = numbers;
        format!(
            "{{\"tenant_id\":\"{tenant}\",\"epoch\":\"{epoch}\",\"tree_size\":\"{size}\",\"chain\":\"{chain}\",\"from\":\"{from}\",\"to\":\"{to}\"}}\n"
        )
    }

    fn error(text: &str) -> (Option<u64>, String) {
        let trouble = read(text.as_bytes(), "file").unwrap_err();
        (trouble.line, trouble.what)
    }

    #[test]
    fn logs_are_read_by_tenant_and_epoch() {
        let text = [
            line("a", [0, 3, 0, 0, 2]),
            line("a", [0, 3, 1, 0, 1]),
            line("a", [0, 4, 0, 2, 3]),
            line("a", [1, 5, 0, 0, 5]),
            line("b\\n", [0, 1, 7, 0, 1]),
        ];
        let tenants = read(text.concat().as_bytes(), "file").unwrap();
        assert_eq!(tenants["a"][&0].len(), 3);
        assert_eq!(tenants["a"][&1], [(5, Interval { chain: 0, from: 0, to: 5 })]);
        assert_eq!(tenants["b\n"].len(), 1);
    }

    #[test]
    fn what_is_no_log_is_named_with_its_line() {
        let first = line("a", [0, 3, 0, 0, 3]);
        let after = |second: String| error(&(first.clone() + &second));
        assert_eq!(after(line("a", [0, 5, 0, 4, 6])).0, Some(2));
        assert!(after(line("a", [0, 5, 0, 4, 6])).1.contains("ended with 3"));
        assert!(after(line("a", [0, 3, 1, 0, 2])).1.contains("hold 5 events"));
        assert!(after(line("a", [0, 2, 1, 0, 2])).1.contains("after it had 3"));
        assert!(after(line("a", [0, 4, -1, 0, 1])).1.contains("no interval"));
        let other = line("b", [0, 1, 0, 0, 1]);
        assert_eq!(after(other.clone() + &line("a", [0, 4, 0, 3, 4])).0, Some(3));
        assert!(after(other + &line("a", [0, 4, 0, 3, 4])).1.contains("ended before"));
        assert!(after("{}\n".into()).1.contains("missing field"));
        assert!(after("x\n".into()).1.contains("no interval"));
        assert!(after(first.replace("\"3\"", "\"03\"")).1.contains("malformed"));
        assert!(after(first.replace("\"3\"", "3")).1.contains("no interval"));
        assert!(after(first.replace("}", ",\"epoch\":\"0\"}")).1.contains("duplicate"));
        assert!(after(first.trim_end().into()).1.contains("no newline"));
        assert_eq!(error(&"x".repeat(MAX_LINE + 1)).0, Some(1));
    }
}
