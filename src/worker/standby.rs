//! The worker of a database on a hot standby: verifies every hour, and writes what it finds to the server log, since it can
//! write nowhere else. A promotion stops it, and the launcher starts a full worker.

use std::time::Duration;

use serde::Serialize;

use crate::pg::error::log_line;
use crate::shared::databases::{End, work};
use crate::trail::owner_transaction::{self, WorkerError};
use crate::worker::process::{dying, reload_if_asked, show, wait};

/// How often it verifies.
const EVERY: Duration = Duration::from_secs(3600);

#[derive(Default, Serialize)]
struct Line {
    event: &'static str,
    tenants: i64,
    events: i64,
    not_ok: i64,
    first_finding: Option<String>,
}

/// Verifies until the process must stop.
pub fn serve(database: u32) -> End {
    show(true, "looking for the extension");
    if let Err(WorkerError::Gone) = owner_transaction::run(None, |_| Ok(())) {
        return End::NothingToDo;
    }
    work::settle(database);
    loop {
        show(true, "verifying on a standby");
        match verify() {
            Ok(line) => {
                if let Ok(line) = serde_json::to_string(&line) {
                    log_line(&format!("zeroauth_audit: {line}"));
                }
            }
            Err(WorkerError::Gone) => return End::NothingToDo,
            Err(WorkerError::Error(message)) => {
                pgrx::warning!("zeroauth_audit: could not verify on the standby: {message}")
            }
        }
        show(false, "waiting to verify again");
        let since = std::time::Instant::now();
        while since.elapsed() < EVERY {
            if dying() || work::signals(database).0 {
                return End::Ended;
            }
            reload_if_asked();
            wait(Some(EVERY.saturating_sub(since.elapsed())));
        }
    }
}

fn verify() -> Result<Line, WorkerError> {
    owner_transaction::run(None, |open| {
        let mut line = Line { event: "standby_verified", ..Line::default() };
        let sql = include_str!("../../sql/queries/trail_summary.sql").replace("@extschema@", &open.public);
        open.session.all(&sql, &[], |row| {
            line.tenants = row.int8(0).unwrap_or(0);
            line.events = row.int8(1).unwrap_or(0);
            line.not_ok = row.int8(2).unwrap_or(0);
            line.first_finding = row.text(3)?;
            Ok(())
        })?;
        Ok(line)
    })
}
