//! The machine that was measured, in words.

use std::fs;
use std::thread::available_parallelism;

use anyhow::Result;
use postgres::Client;

/// One Markdown list item a fact.
pub(crate) fn describe(client: &mut Client) -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cores = available_parallelism().map_or_else(|_| "?".into(), |cores| cores.to_string());
    let version: String = client.query_one("SELECT version()", &[])?.get(0);
    Ok(format!(
        "- {cores} cores, {model}{sha}\n- {memory} GiB of memory\n- {version}\n",
        model = field(&cpuinfo, "model name").unwrap_or("unknown CPU"),
        sha = if has_flag(&cpuinfo, "sha_ni") {
            ", with SHA instructions"
        } else {
            ", without SHA instructions"
        },
        memory = gibibytes(&meminfo).map_or_else(|| "?".into(), |memory| memory.to_string()),
    ))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    field(cpuinfo, "flags").is_some_and(|flags| flags.split_whitespace().any(|known| known == flag))
}

fn gibibytes(meminfo: &str) -> Option<u64> {
    let kibibytes: u64 = field(meminfo, "MemTotal")?.split_whitespace().next()?.parse().ok()?;
    Some((kibibytes + (1 << 19)) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_proc() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sha_ni avx2\n";
        assert_eq!(field(cpuinfo, "model name"), Some("AMD EPYC"));
        assert!(has_flag(cpuinfo, "sha_ni") && !has_flag(cpuinfo, "sha"));
        assert_eq!(gibibytes("MemTotal:       24684000 kB\n"), Some(24));
    }
}
