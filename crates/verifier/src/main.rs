//! `zeroauth-audit`: checks exports, proof bundles and checkpoints of `zeroauth_audit`, makes keys, and deploys the anchor contract.
//!
//! Exit codes: 0 verified, 1 tampered, 2 could not check (a wrong command line, too), 3 restored. Verdicts are on standard output, in
//! lines for people or each as one JSON object in a line.
#![forbid(unsafe_code)]

mod cli;
#[cfg(feature = "network")]
mod network;
mod watch;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use zeroauth_audit_core::origin::Base;
use zeroauth_audit_core::proof;
use zeroauth_audit_core::trust::Trust;
use zeroauth_audit_verifier::anchor;
use zeroauth_audit_verifier::export::coverage::{OfRegistry, Sealings};
use zeroauth_audit_verifier::export::time::micros;
use zeroauth_audit_verifier::keys;
use zeroauth_audit_verifier::mirror;
use zeroauth_audit_verifier::outside::Outside;
use zeroauth_audit_verifier::progress::Progress;
use zeroauth_audit_verifier::runs::{self, Demands, RunFile, Runs};
use zeroauth_audit_verifier::verdict::{Outcome, Verdict};
use zeroauth_audit_verifier::{bundle, export, intervals, sealed};

use cli::{Anchors, Cli, Command, Trusted};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody reads it, or it is on the terminal: there is no third place to complain in.
            let _ = error.print();
            let asked_for_help = error.exit_code() == 0;
            return if asked_for_help {
                ExitCode::SUCCESS
            } else {
                Outcome::CouldNotCheck.exit_code().into()
            };
        }
    };
    let json = cli.json;
    let (output, code) = match run(cli.command, json) {
        Ok(Done::Text(text)) => (text, 0),
        Ok(Done::Verdicts(verdicts)) => {
            let text = verdicts.iter().map(|it| if json { it.json() + "\n" } else { it.text() }).collect();
            let worst = verdicts.iter().map(|it| it.verdict).max_by_key(|outcome| outcome.weight());
            (text, worst.unwrap_or(Outcome::CouldNotCheck).exit_code())
        }
        Err(what) => {
            eprintln!("zeroauth-audit: {what}");
            return Outcome::CouldNotCheck.exit_code().into();
        }
    };
    match io::stdout().write_all(output.as_bytes()) {
        Ok(()) => code.into(),
        // A verdict that nobody could read is none.
        Err(error) => {
            eprintln!("zeroauth-audit: cannot write: {error}");
            Outcome::CouldNotCheck.exit_code().into()
        }
    }
}

enum Done {
    Text(String),
    Verdicts(Vec<Verdict>),
}

fn run(command: Command, json: bool) -> Result<Done, String> {
    #[cfg(not(feature = "network"))]
    let _ = json;
    let verdict = match command {
        Command::Keygen { out, origin, ml_dsa } => {
            return Ok(Done::Text(format!("{}\n", keys::generate(&out, &origin, ml_dsa)?)));
        }
        Command::PublicKey { file } => {
            let lines = keys::public_keys(&file)?.into_iter().map(|key| format!("{key}\n"));
            return Ok(Done::Text(lines.collect()));
        }
        Command::VerifyExport {
            file,
            trusted,
            checkpoints,
            all_tenants,
            before,
            intervals,
            runs,
            names,
            accepted,
            max_line,
        } => {
            let mut verdict = Verdict::new("verify-export", file.display().to_string());
            let before = before.as_deref().map(seconds).transpose()?;
            let trust = trusted.trust()?;
            if !checkpoints.is_empty() && !trust.has_keys() {
                return Err("checkpoints prove nothing without the --key that they were signed with".into());
            }
            let mut sealings = sealings(&checkpoints, before, &trust, intervals.as_deref(), &mut verdict);
            if let (Some(runs), Some(names)) = (&runs, &names) {
                if !trust.has_keys() {
                    return Err("run files prove nothing without the --key that they were signed with".into());
                }
                match registry(runs, names, &accepted, all_tenants, &trust, &mut verdict) {
                    Ok(registry) => sealings.with_registry(registry),
                    Err(what) => verdict.trouble_with(runs.display().to_string(), what),
                }
            }
            let (source, bytes) = open(&file)?;
            let name = file.display().to_string();
            export::verify(source, &name, max_line, sealings, &mut verdict, &mut Progress::new(bytes));
            verdict
        }
        Command::VerifyBundle { files, trusted, anchors } => {
            let trust = trusted.required("a bundle")?;
            let outside = anchors.outside(&trusted)?;
            let one = |file: &PathBuf| one_bundle(file, &trust, &outside, anchors.require_anchors);
            return Ok(Done::Verdicts(files.iter().map(one).collect()));
        }
        Command::VerifyCheckpoints { folder, trusted, max_silence, accepted, kept } => {
            let trust = trusted.required("a directory of run files")?;
            let mut verdict = Verdict::new("verify-checkpoints", folder.display().to_string());
            if let Some(files) = run_files(&folder, &mut verdict) {
                let demands = Demands { accepted: &accepted, max_silence, ..Demands::default() };
                let runs = Runs::read(files, &trust, demands, &mut verdict);
                for file in &kept {
                    match sealed::registry(file, &trust) {
                        Ok(kept) => runs.remember(&kept, &mut verdict),
                        Err(what) => verdict.trouble_with(file.display().to_string(), what),
                    }
                }
                runs.end(&mut verdict);
            }
            verdict
        }
        Command::Tiles { folder, trusted, out, accepted } => {
            let trust = trusted.required("a directory of run files")?;
            let mut verdict = Verdict::new("tiles", folder.display().to_string());
            write_tiles(&folder, &trust, &accepted, &out, &mut verdict);
            verdict
        }
        Command::Monitor(watch) => watch::run(&watch, json)?,
        #[cfg(feature = "network")]
        Command::DeployContract(deploy) => {
            let mut tell = |line: &str| eprintln!("zeroauth-audit: {line}");
            let deployed = zeroauth_audit_verifier::deploy::deploy(&deploy.request()?, &mut tell)?;
            return Ok(Done::Text(if json { deployed.json() + "\n" } else { deployed.text() }));
        }
    };
    Ok(Done::Verdicts(vec![verdict]))
}

/// The logs of run files, which are verified first.
fn registry(
    folder: &Path,
    names: &Path,
    accepted: &[u64],
    all_tenants: bool,
    trust: &Trust,
    verdict: &mut Verdict,
) -> Result<OfRegistry, String> {
    let names = keys::name_key(names)?;
    let files = runs::files(folder).map_err(|trouble| trouble.what)?;
    let demands = Demands { accepted, keep_logs: true, ..Demands::default() };
    let runs = Runs::read(files, trust, demands, verdict);
    runs.end(verdict);
    // What is counted is what the export has.
    verdict.tenants = 0;
    let (logs, origin, said) = runs.into_logs().ok_or("there is no run file in it that was verified")?;
    if said.is_some_and(|said| said != names.digest()) {
        return Err("the key of names is not that of this registry".into());
    }
    let base = Base::parse(&origin).map_err(|error| error.to_string())?;
    Ok(OfRegistry { names, base, logs: logs.into_open(), all_tenants })
}

/// The run files of a directory; `None` when there is none, which is told.
fn run_files(folder: &Path, verdict: &mut Verdict) -> Option<Vec<RunFile>> {
    match runs::files(folder) {
        Ok(files) if files.is_empty() => {
            verdict.trouble_with(folder.display().to_string(), "there is no run file in it");
            None
        }
        Ok(files) => Some(files),
        Err(trouble) => {
            verdict.trouble(trouble);
            None
        }
    }
}

/// Verifies run files and writes their registry as tiles.
fn write_tiles(folder: &Path, trust: &Trust, accepted: &[u64], out: &Path, verdict: &mut Verdict) {
    let Some(files) = run_files(folder, verdict) else { return };
    let demands = Demands { accepted, ..Demands::default() };
    Runs::read(files.clone(), trust, demands, verdict).end(verdict);
    if verdict.verdict != Outcome::Verified {
        return verdict.note("nothing is written");
    }
    if files.first().is_none_or(|first| first.number > 1) {
        return verdict.trouble_with(
            folder.display().to_string(),
            "tiles are of all entries, and the first are not here",
        );
    }
    match mirror::write(&files, out) {
        Ok(entries) => verdict.note(format!("{entries} entries are in {:?}", out.display().to_string())),
        Err(what) => verdict.trouble_with(out.display().to_string(), what),
    }
}

fn one_bundle(file: &Path, trust: &Trust, outside: &Outside, least: usize) -> Verdict {
    let name = file.display().to_string();
    let mut verdict = Verdict::new("verify-bundle", name.clone());
    match sealed::read_file(file, proof::MAX_BYTES as u64) {
        Ok(bytes) => {
            bundle::verify(&bytes, &name, trust, outside, &mut verdict);
            anchor::require(least, &name, &mut verdict);
        }
        Err(what) => verdict.trouble_with(name, what),
    }
    verdict
}

impl Anchors {
    /// What is trusted of the outside.
    fn outside(&self, trusted: &Trusted) -> Result<Outside, String> {
        let keys = if self.anchor_keys.is_empty() { &trusted.keys } else { &self.anchor_keys };
        let mut outside = Outside::with_keys(keys::list(keys)?);
        outside.trust.authorities = keys::authorities(&self.authorities)?;
        outside.blocks.clone_from(&self.blocks);
        outside.contracts.clone_from(&self.contracts);
        outside.chain_ids.clone_from(&self.chain_ids);
        #[cfg(feature = "network")]
        {
            outside.chain = self.rpc.open()?;
        }
        Ok(outside)
    }
}

impl Trusted {
    fn trust(&self) -> Result<Trust, String> {
        keys::trust(&self.keys, &self.witnesses, &self.monitors, self.quorum)
    }

    fn required(&self, what: &str) -> Result<Trust, String> {
        let trust = self.trust()?;
        if trust.has_keys() {
            Ok(trust)
        } else {
            Err(format!("{what} proves nothing without the --key that its checkpoints were signed with"))
        }
    }
}

/// A file, or standard input as `-`, and its length if it has one.
fn open(path: &Path) -> Result<(Box<dyn io::Read>, u64), String> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin().lock()), 0));
    }
    let file = File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let bytes = file.metadata().map_or(0, |data| data.len());
    Ok((Box::new(file), bytes))
}

fn seconds(time: &str) -> Result<u64, String> {
    let micros = micros(time.as_bytes()).and_then(|micros| u64::try_from(micros).ok());
    micros
        .map(|micros| micros / 1_000_000)
        .ok_or_else(|| format!("{time:?} is no time such as 2026-11-21T09:30:00Z"))
}

/// What an export is held against. The tenants of checkpoints must be in it.
fn sealings(
    paths: &[PathBuf],
    before: Option<u64>,
    trust: &Trust,
    intervals: Option<&Path>,
    verdict: &mut Verdict,
) -> Sealings {
    let mut checkpoints = Vec::new();
    let mut expected = HashSet::new();
    let mut later = 0_u64;
    for path in paths {
        let Some(believed) = sealed::open(path, trust, verdict) else { continue };
        if before.is_some_and(|before| believed.sealed_at.is_none_or(|time| time >= before)) {
            later += 1;
            continue;
        }
        expected.insert(believed.tenant.clone());
        checkpoints.push(believed);
    }
    if later > 0 {
        verdict
            .note(format!("{later} checkpoints were not sealed before the given time and are not compared"));
    }
    let intervals = intervals.map(|path| {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => intervals::read(file, &name),
            Err(error) => Err(zeroauth_audit_verifier::verdict::Trouble {
                file: name,
                what: format!("cannot be read: {error}"),
                ..Default::default()
            }),
        }
    });
    let intervals = match intervals.transpose() {
        Ok(intervals) => intervals.unwrap_or_default(),
        Err(trouble) => {
            verdict.trouble(trouble);
            HashMap::new()
        }
    };
    Sealings::new(checkpoints, intervals, expected)
}
