//! What `audit_verify()` says: as psql shows it, and judged.

use anyhow::{Context, Result, bail};
use postgres::Client;
use zeroauth_audit_tests::Cluster;

use super::tamper::Tampered;

/// The part of a verdict that the demo judges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    tenant: String,
    ok: bool,
}

/// The part of a finding that the demo judges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    class: String,
    tenant: String,
    chain: Option<i16>,
    seq: Option<i64>,
}

const VERDICTS: &str = "SELECT * FROM audit_verify() ORDER BY tenant_id";
const FINDINGS: &str = "SELECT * FROM audit_findings()";

/// The verdict on every tenant, as psql shows it.
pub(crate) fn shown(cluster: &Cluster) -> Result<String> {
    psql(cluster, &[VERDICTS])
}

/// Each finding, as psql shows it.
pub(crate) fn findings_shown(cluster: &Cluster) -> Result<String> {
    psql(cluster, &["\\x on", FINDINGS])
}

fn psql(cluster: &Cluster, statements: &[&str]) -> Result<String> {
    let mut command = cluster.command("psql");
    command.args(["-X", "-q", "-P", "pager=off", "-v", "ON_ERROR_STOP=1"]);
    for statement in statements {
        command.args(["-c", statement]);
    }
    crate::process::read(&mut command).context("psql cannot show the verdict")
}

/// The verdict on every tenant.
pub(crate) fn all(client: &mut Client) -> Result<Vec<Verdict>> {
    let rows = client.query("SELECT tenant_id, ok FROM audit_verify()", &[]).context("cannot verify")?;
    Ok(rows.iter().map(|row| Verdict { tenant: row.get(0), ok: row.get(1) }).collect())
}

/// Every finding.
pub(crate) fn findings(client: &mut Client) -> Result<Vec<Finding>> {
    let rows = client
        .query("SELECT class, tenant_id, chain, seq FROM audit_findings()", &[])
        .context("cannot list the findings")?;
    Ok(rows
        .iter()
        .map(|row| Finding { class: row.get(0), tenant: row.get(1), chain: row.get(2), seq: row.get(3) })
        .collect())
}

/// Fails unless every tenant is whole.
pub(crate) fn require_whole(verdicts: &[Verdict]) -> Result<()> {
    if verdicts.is_empty() {
        bail!("the verifier saw no tenant at all");
    }
    match verdicts.iter().find(|verdict| !verdict.ok) {
        Some(broken) => bail!("the trail of {} was just written, and is reported broken", broken.tenant),
        None => Ok(()),
    }
}

/// Fails unless exactly the tampered tenant is not ok, and the changed row is named as such.
pub(crate) fn require_found(verdicts: &[Verdict], findings: &[Finding], tampered: &Tampered) -> Result<()> {
    for verdict in verdicts {
        match (verdict.tenant == tampered.tenant, verdict.ok) {
            (true, true) => {
                bail!("tenant {} was tampered with, and the verifier says it is whole", verdict.tenant)
            }
            (false, false) => bail!("tenant {} is as it was, and is reported broken", verdict.tenant),
            _ => {}
        }
    }
    if !verdicts.iter().any(|verdict| verdict.tenant == tampered.tenant) {
        bail!("the verifier forgot tenant {}", tampered.tenant);
    }
    let changed = Finding {
        class: "content_mismatch".into(),
        tenant: tampered.tenant.clone(),
        chain: Some(tampered.chain),
        seq: Some(tampered.seq),
    };
    match findings {
        [only] if *only == changed => Ok(()),
        [] => bail!("one row was changed, and there is no finding"),
        others => bail!("one row was changed ({changed:?}), and the findings are {others:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(tenant: &str, ok: bool) -> Verdict {
        Verdict { tenant: tenant.into(), ok }
    }

    fn finding(class: &str, seq: i64) -> Finding {
        Finding { class: class.into(), tenant: "host".into(), chain: Some(0), seq: Some(seq) }
    }

    fn tampered() -> Tampered {
        Tampered {
            tenant: "host".into(),
            event_id: String::new(),
            chain: 0,
            seq: 5,
            action: String::new(),
            before: String::new(),
            after: String::new(),
            refusal: String::new(),
            done: std::time::Instant::now(),
        }
    }

    #[test]
    fn a_new_trail_must_be_whole_and_must_be_there() {
        assert!(require_whole(&[verdict("host", true)]).is_ok());
        assert!(require_whole(&[verdict("host", true), verdict("repo", false)]).is_err());
        assert!(require_whole(&[]).is_err(), "no verdict is not a good verdict");
    }

    #[test]
    fn only_the_changed_row_may_be_found() {
        let verdicts = [verdict("host", false), verdict("repo", true)];
        let changed = finding("content_mismatch", 5);
        assert!(require_found(&verdicts, std::slice::from_ref(&changed), &tampered()).is_ok());
        assert!(require_found(&verdicts, &[], &tampered()).is_err());
        assert!(require_found(&verdicts, &[finding("content_mismatch", 6)], &tampered()).is_err());
        assert!(require_found(&verdicts, &[changed.clone(), finding("gap", 6)], &tampered()).is_err());
        assert!(
            require_found(&[verdict("host", true)], std::slice::from_ref(&changed), &tampered()).is_err()
        );
        assert!(
            require_found(&[verdict("repo", true)], std::slice::from_ref(&changed), &tampered()).is_err()
        );
        assert!(
            require_found(&[verdict("host", false), verdict("repo", false)], &[changed], &tampered())
                .is_err()
        );
    }
}
