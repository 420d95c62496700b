//! The project's own git history as events of the tenant `repo`: one event a commit.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use zeroauth_audit_tests::workspace;

use super::event::Event;
use crate::process;

/// The tenant of these events.
pub(crate) const TENANT: &str = "repo";

/// Every commit that HEAD descends from, oldest first; None when this is no git checkout or git is not there.
pub(crate) fn events() -> Result<Option<Vec<Event>>> {
    let inside = process::output(git().args(["rev-parse", "--verify", "--quiet", "HEAD"]));
    if !inside.is_ok_and(|output| output.status.success()) {
        return Ok(None);
    }
    // Records end with 0x1e and fields with 0x1f, which git takes out of names and a subject cannot hold usefully.
    let format = "--format=%x1e%H%x1f%an%x1f%ae%x1f%aI%x1f%cn%x1f%ce%x1f%cI%x1f%P%x1f%s%x1f";
    let log = process::read(git().args(["log", "--reverse", "--shortstat", format, "HEAD"]))?;
    log.split('\x1e').skip(1).map(event).collect::<Result<_>>().map(Some)
}

/// git, also in a checkout that belongs to another user, as one does when root looks at it.
fn git() -> Command {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*", "-c", "core.quotePath=false", "-C"]).arg(workspace());
    command
}

fn event(record: &str) -> Result<Event> {
    let fields: Vec<&str> = record.split('\x1f').collect();
    let [
        hash,
        author,
        author_email,
        authored_at,
        committer,
        committer_email,
        committed_at,
        parents,
        subject,
        ..,
        stat,
    ] = fields.as_slice()
    else {
        return Err(anyhow::anyhow!("{record:?}")).context("git log printed a record in another form");
    };
    let parents: Vec<&str> = parents.split_whitespace().collect();
    Ok(Event {
        tenant: TENANT,
        occurred_at: (*committed_at).into(),
        category: "source",
        action: if parents.len() > 1 { "git.merge".into() } else { "git.commit".into() },
        severity: "info",
        resource: Some((*hash).into()),
        service_name: "git",
        provider: "git",
        actor_type: "user",
        actor_id: (*author_email).into(),
        details: json!({
            "subject": subject,
            "author": author,
            "authored_at": authored_at,
            "committer": committer,
            "committer_email": committer_email,
            "parents": parents,
            "files_changed": count(stat, "file"),
            "insertions": count(stat, "insertion"),
            "deletions": count(stat, "deletion"),
        }),
    })
}

/// The number before `what` in `3 files changed, 10 insertions(+), 2 deletions(-)`; 0 when it is not named.
fn count(stat: &str, what: &str) -> u64 {
    stat.split(',')
        .filter_map(|part| part.trim().split_once(' '))
        .find(|(_, unit)| unit.starts_with(what))
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_keeps_who_when_and_how_much() {
        let record = "abc\x1fAnn\x1fann@x\x1f2026-01-01T10:00:00+01:00\x1fBob\x1fbob@x\x1f2026-01-02T10:00:00Z\x1fp1\x1fFix \"it\"\x1f\n\n 3 files changed, 10 insertions(+), 2 deletions(-)\n";
        let event = event(record).unwrap();
        assert_eq!((event.action.as_str(), event.actor_id.as_str()), ("git.commit", "ann@x"));
        assert_eq!(event.occurred_at, "2026-01-02T10:00:00Z");
        assert_eq!(event.details["subject"], "Fix \"it\"");
        assert_eq!(
            [&event.details["files_changed"], &event.details["insertions"], &event.details["deletions"]],
            [3, 10, 2]
        );
    }

    #[test]
    fn a_merge_and_an_empty_commit_have_no_stat() {
        let event = event("abc\x1fA\x1fa\x1ft\x1fB\x1fb\x1ft\x1fp1 p2\x1fMerge\x1f\n").unwrap();
        assert_eq!(event.action, "git.merge");
        assert_eq!(event.details["files_changed"], 0);
        assert!(super::event("something else").is_err());
    }
}
