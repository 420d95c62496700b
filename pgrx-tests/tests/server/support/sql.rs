//! Plain SQL as psql would send it, with answers that read well in an assertion.

use postgres::error::DbError;
use postgres::{Client, SimpleQueryMessage};

/// What the server said when it refused.
#[derive(Debug)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
    pub column: String,
    pub constraint: String,
}

impl From<&DbError> for Refusal {
    fn from(error: &DbError) -> Self {
        Self {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().unwrap_or_default().to_owned(),
            hint: error.hint().unwrap_or_default().to_owned(),
            column: error.column().unwrap_or_default().to_owned(),
            constraint: error.constraint().unwrap_or_default().to_owned(),
        }
    }
}

pub trait Sql {
    /// Runs statements that have to go through.
    fn run(&mut self, sql: &str);
    /// Rows, as psql -At prints them: columns joined by a bar, `~` for NULL.
    fn lines(&mut self, sql: &str) -> Vec<String>;
    /// The one line of the answer.
    fn line(&mut self, sql: &str) -> String;
    /// Rows with their columns apart.
    fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>>;
    /// The error of statements that must not go through.
    fn refusal(&mut self, sql: &str) -> Refusal;
    /// Asserts the SQLSTATE of statements that must not go through, and gives the error for a closer look.
    fn refused(&mut self, code: &str, sql: &str) -> Refusal;
}

impl Sql for Client {
    #[track_caller]
    fn run(&mut self, sql: &str) {
        if let Err(error) = self.batch_execute(sql) {
            panic!("{}\n  in: {}", shown(&error), short(sql));
        }
    }

    #[track_caller]
    fn lines(&mut self, sql: &str) -> Vec<String> {
        let joined = |row: Vec<Option<String>>| {
            row.into_iter().map(|c| c.unwrap_or_else(|| "~".into())).collect::<Vec<_>>().join("|")
        };
        self.rows(sql).into_iter().map(joined).collect()
    }

    #[track_caller]
    fn line(&mut self, sql: &str) -> String {
        let lines = self.lines(sql);
        assert_eq!(lines.len(), 1, "one row wanted from: {}\n{lines:?}", short(sql));
        lines.into_iter().next().unwrap()
    }

    #[track_caller]
    fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let messages = match self.simple_query(sql) {
            Ok(messages) => messages,
            Err(error) => panic!("{}\n  in: {}", shown(&error), short(sql)),
        };
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
            }
        }
        rows
    }

    #[track_caller]
    fn refusal(&mut self, sql: &str) -> Refusal {
        match self.batch_execute(sql) {
            Ok(()) => panic!("went through, and must not: {}", short(sql)),
            Err(error) => match error.as_db_error() {
                Some(error) => error.into(),
                None => panic!("{error}\n  in: {}", short(sql)),
            },
        }
    }

    #[track_caller]
    fn refused(&mut self, code: &str, sql: &str) -> Refusal {
        let refusal = self.refusal(sql);
        assert_eq!(refusal.code, code, "{refusal:?}\n  for: {}", short(sql));
        refusal
    }
}

fn shown(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(e) => format!("{} {} {}", e.code().code(), e.message(), e.detail().unwrap_or_default()),
        None => error.to_string(),
    }
}

fn short(sql: &str) -> &str {
    sql.char_indices().nth(600).map_or(sql, |(end, _)| &sql[..end])
}
