//! What witnesses signed of the registry, and which run's file carries it.

use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};

/// Notes of runs with the lines of witnesses that no file carries yet: the file of run `number` does from now on.
pub fn carry(session: &Session, schema: &str, number: u64) -> Result<Vec<String>, Failure> {
    let sql = format!(
        "WITH carried AS (
            UPDATE {schema}.registry_cosignatures c SET carried_by = $1
            WHERE c.carried_by IS NULL AND c.run < $1 RETURNING c.run, c.sink, c.line)
         {}",
        notes(schema, "carried")
    );
    let mut carried = Vec::new();
    session.change_again(&sql, &[Parameter::count(number)], |row| {
        carried.extend(row.text(0)?);
        Ok(())
    })?;
    Ok(carried)
}

/// The notes that the file of run `number` carries.
pub fn carried_by(session: &Session, schema: &str, number: u64) -> Result<Vec<String>, Failure> {
    let lines = format!("(SELECT run, sink, line FROM {schema}.registry_cosignatures WHERE carried_by = $1)");
    let mut carried = Vec::new();
    session.again(&notes(schema, &lines), &[Parameter::count(number)], |row| {
        carried.extend(row.text(0)?);
        Ok(())
    })?;
    Ok(carried)
}

/// A query for the notes of runs with these lines: one note for each run.
fn notes(schema: &str, lines: &str) -> String {
    format!(
        "SELECT r.note || pg_catalog.string_agg(c.line || pg_catalog.chr(10), '' ORDER BY c.sink)
         FROM {lines} c JOIN {schema}.registry_runs r ON r.number = c.run GROUP BY r.number, r.note ORDER BY r.number"
    )
}
