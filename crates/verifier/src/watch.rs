//! The command `monitor`: rounds at intervals, and whom they are told to.

use std::io::Write as _;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_verifier::keys;
use zeroauth_audit_verifier::mirror::replace;
use zeroauth_audit_verifier::monitor::{Monitor, Round, cosigned};
use zeroauth_audit_verifier::runs::Demands;
use zeroauth_audit_verifier::verdict::{Outcome, Verdict};

use crate::cli::Watch;

/// Watches until something is found; the verdict then.
pub(crate) fn run(watch: &Watch, json: bool) -> Result<Verdict, String> {
    let trust = watch.trusted.required("a directory of run files")?;
    let key = watch.cosigner.as_deref().map(keys::signing_key).transpose()?;
    #[cfg(feature = "network")]
    let mut webhook = watch.webhook.open()?;
    let demands = Demands { accepted: &watch.accepted, max_silence: watch.max_silence, ..Demands::default() };
    let mut monitor = Monitor::new(&watch.folder, &trust, demands, watch.state.clone());
    let mut told: Option<Outcome> = None;
    loop {
        let now = now();
        let mut round = monitor.round(now);
        sign(watch, key.as_ref(), &mut round, now);
        if let Some(file) = &watch.metrics
            && let Err(what) = replace(file, monitor.metrics(&round, now).as_bytes())
        {
            round.verdict.trouble_with(file.display().to_string(), what);
        }
        let outcome = round.verdict.verdict;
        let is_new = told != Some(outcome);
        #[cfg(feature = "network")]
        if let Some(webhook) = &mut webhook
            && let Err(what) = webhook.tell(&round.verdict, is_new)
        {
            round.verdict.trouble_with("--webhook", what);
        }
        if watch.once || outcome == Outcome::Tampered {
            return Ok(round.verdict);
        }
        if is_new {
            print(&round.verdict, json);
            told = Some(outcome);
        }
        sleep(Duration::from_secs(watch.interval));
    }
}

/// Signs what was verified, and only that.
fn sign(watch: &Watch, key: Option<&SigningKey>, round: &mut Round, now: u64) {
    let (Some(key), Some(file), Some(note)) = (key, &watch.cosigned, &round.checkpoint) else { return };
    if round.verdict.verdict != Outcome::Verified {
        return;
    }
    let signed = cosigned(note, key, now).and_then(|note| replace(file, note.as_bytes()));
    if let Err(what) = signed {
        round.verdict.trouble_with(file.display().to_string(), what);
    }
}

fn print(verdict: &Verdict, json: bool) {
    let text = if json { verdict.json() + "\n" } else { verdict.text() };
    let mut out = std::io::stdout().lock();
    // Whoever does not read it any more still has the exit code.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
