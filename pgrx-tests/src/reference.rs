//! The SQL reference (`docs/sql.md`), made from the catalogs of a database that has the extension: what people can call and read, with
//! the COMMENT of each.
//!
//! It reads and formats; who compares or writes the file is `cargo xtask docs` and the test on a server.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use postgres::Client;

/// The file, relative to the workspace.
pub const FILE: &str = "docs/sql.md";

const HEAD: &str = "# SQL reference

Made by `cargo xtask docs` from the COMMENTs of the extension; a test compares it with the installed one. Do not edit it.
`SELECT * FROM audit_help()` shows the same in psql, and what the role that asks may call.
";

/// Order of the duties, as a reader meets them.
const DUTIES: [&str; 8] =
    ["writer", "writer_returning", "reader", "private_reader", "auditor", "monitor", "operator", "owner"];

/// What is in the extension's own schema, and whom it is for. Objects without a duty have an empty list.
struct Entry {
    name: String,
    /// Of a function its signature, of a relation what it is.
    form: String,
    comment: String,
    duties: Vec<String>,
    columns: Vec<[String; 3]>,
}

/// The whole text of the document.
///
/// # Errors
/// When a query fails, or a public object has no COMMENT.
pub fn sql(client: &mut Client) -> Result<String> {
    let duties = duties(client)?;
    let functions = functions(client, &duties)?;
    let relations = relations(client, &duties)?;
    let mut text = HEAD.to_owned();
    by_duty(&mut text, &functions, &relations);
    text.push_str("\n## Functions\n");
    for entry in &functions {
        let Entry { name, form, comment, .. } = entry;
        let _ = write!(text, "\n### `{name}`\n\n```sql\n{form}\n```\n\n{comment}\n\n{}\n", whom(entry));
    }
    text.push_str("\n## Tables and views\n");
    for entry in &relations {
        let Entry { name, form, comment, columns, .. } = entry;
        let _ = write!(text, "\n### `{name}`\n\nA {form}. {comment}\n\n{}\n\n", whom(entry));
        text.push_str("| column | type | |\n|---|---|---|\n");
        for [column, kind, comment] in columns {
            let _ = writeln!(text, "| `{column}` | {kind} | {} |", cell(comment));
        }
    }
    Ok(text)
}

fn whom(entry: &Entry) -> String {
    if entry.duties.is_empty() {
        "For the owner.".into()
    } else {
        format!("For: {}.", entry.duties.join(", "))
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn by_duty(text: &mut String, functions: &[Entry], relations: &[Entry]) {
    text.push_str("\n## By duty\n\n| duty | may call | may read |\n|---|---|---|\n");
    for duty in DUTIES {
        let list = |entries: &[Entry]| {
            let named: Vec<_> = entries
                .iter()
                .filter(|entry| entry.duties.iter().any(|d| d == duty))
                .map(|entry| format!("[`{0}`](#{0})", entry.name))
                .collect();
            named.join(", ")
        };
        let (calls, reads) = (list(functions), list(relations));
        if !calls.is_empty() || !reads.is_empty() {
            let _ = writeln!(text, "| `{duty}` | {calls} | {reads} |");
        }
    }
    text.push_str("\nThe owner may do everything. [roles.md](roles.md) has what each duty is for.\n");
}

/// Duties by object, as the extension's own list has them.
fn duties(client: &mut Client) -> Result<BTreeMap<String, Vec<String>>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let rows = client
        .query("SELECT DISTINCT object, duty FROM zeroauth_audit_internal.duty_grants", &[])
        .context("cannot read what each duty gives")?;
    for row in rows {
        found.entry(row.get(0)).or_default().push(row.get(1));
    }
    for duties in found.values_mut() {
        duties.sort_by_key(|duty| DUTIES.iter().position(|d| d == duty));
    }
    Ok(found)
}

fn functions(client: &mut Client, duties: &BTreeMap<String, Vec<String>>) -> Result<Vec<Entry>> {
    let rows = client
        .query(
            "SELECT p.proname::text, p.proname || '(' || pg_get_function_arguments(p.oid) || ')', pg_get_function_result(p.oid),
                    obj_description(p.oid, 'pg_proc'), p.proname || '(' || oidvectortypes(p.proargtypes) || ')'
             FROM pg_extension e
             JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
             JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid AND p.pronamespace = e.extnamespace
             WHERE e.extname = 'zeroauth_audit' ORDER BY 1, 2",
            &[],
        )
        .context("cannot list the functions")?;
    rows.into_iter()
        .map(|row| {
            let name: String = row.get(0);
            let comment: Option<String> = row.get(3);
            Ok(Entry {
                form: signature(row.get(1), row.get(2)),
                comment: comment.with_context(|| format!("function {name} has no COMMENT"))?,
                duties: duties.get(row.get::<_, &str>(4)).cloned().unwrap_or_default(),
                columns: Vec::new(),
                name,
            })
        })
        .collect()
}

/// A signature in lines of a readable length: what a table-returning function returns goes on a line of its own.
fn signature(call: String, result: String) -> String {
    let call = call.replace("::text", "").replace("::integer", "");
    match result.strip_prefix("TABLE(").and_then(|rest| rest.strip_suffix(')')) {
        Some(columns) => format!("{call}\n    RETURNS TABLE ({columns})"),
        None => format!("{call}\n    RETURNS {result}"),
    }
}

fn relations(client: &mut Client, duties: &BTreeMap<String, Vec<String>>) -> Result<Vec<Entry>> {
    let rows = client
        .query(
            "SELECT c.relname::text, CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END, obj_description(c.oid, 'pg_class'), c.oid
             FROM pg_extension e
             JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
             JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relnamespace = e.extnamespace
             WHERE e.extname = 'zeroauth_audit' AND c.relkind IN ('r', 'v') ORDER BY 1",
            &[],
        )
        .context("cannot list the relations")?;
    rows.into_iter()
        .map(|row| {
            let (name, oid): (String, u32) = (row.get(0), row.get(3));
            let comment: Option<String> = row.get(2);
            let columns = client
                .query(
                    "SELECT attname::text, format_type(atttypid, atttypmod), col_description(attrelid, attnum)
                     FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                    &[&oid],
                )
                .with_context(|| format!("cannot list the columns of {name}"))?
                .into_iter()
                .map(|row| {
                    let column: String = row.get(0);
                    let comment: Option<String> = row.get(2);
                    let comment = comment.with_context(|| format!("column {column} of {name} has no COMMENT"))?;
                    Ok([column, row.get(1), comment])
                })
                .collect::<Result<_>>()?;
            Ok(Entry {
                form: row.get(1),
                comment: comment.with_context(|| format!("{name} has no COMMENT"))?,
                duties: duties.get(&name).cloned().unwrap_or_default(),
                columns,
                name,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::signature;

    #[test]
    fn a_signature_has_its_result_on_a_line_of_its_own() {
        assert_eq!(
            signature("f(tenant text DEFAULT NULL::text)".into(), "TABLE(a text, b integer)".into()),
            "f(tenant text DEFAULT NULL)\n    RETURNS TABLE (a text, b integer)"
        );
        assert_eq!(signature("g()".into(), "jsonb".into()), "g()\n    RETURNS jsonb");
    }
}
