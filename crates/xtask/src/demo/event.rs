//! An event of the demo as it goes into the table, and its line in COPY's text format.

use serde_json::Value;

/// The columns a demo event fills, in the order of [`Event::copy_line`].
pub(crate) const COLUMNS: &str = "tenant_id, occurred_at, category, action, severity, resource, service_name, provider, actor_type, actor_id, details";

/// One event; what is not here is set by the server.
#[derive(Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) tenant: &'static str,
    /// As PostgreSQL reads it; without a zone it is in the machine's own.
    pub(crate) occurred_at: String,
    pub(crate) category: &'static str,
    pub(crate) action: String,
    pub(crate) severity: &'static str,
    pub(crate) resource: Option<String>,
    pub(crate) service_name: &'static str,
    pub(crate) provider: &'static str,
    pub(crate) actor_type: &'static str,
    pub(crate) actor_id: String,
    pub(crate) details: Value,
}

impl Event {
    /// The event as one line for COPY, newline included.
    pub(crate) fn copy_line(&self) -> String {
        let details = self.details.to_string();
        let fields = [
            Some(self.tenant),
            Some(self.occurred_at.as_str()),
            Some(self.category),
            Some(self.action.as_str()),
            Some(self.severity),
            self.resource.as_deref(),
            Some(self.service_name),
            Some(self.provider),
            Some(self.actor_type),
            Some(self.actor_id.as_str()),
            Some(details.as_str()),
        ];
        let mut line = String::new();
        for (index, field) in fields.into_iter().enumerate() {
            if index > 0 {
                line.push('\t');
            }
            match field {
                Some(text) => escape(text, &mut line),
                None => line.push_str("\\N"),
            }
        }
        line.push('\n');
        line
    }
}

/// COPY's text format: a backslash before a backslash, and letters for what would end a field or a line. A NUL, which no
/// text of PostgreSQL holds, is shown as U+FFFD.
fn escape(text: &str, line: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => line.push_str("\\\\"),
            '\t' => line.push_str("\\t"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\0' => line.push('\u{fffd}'),
            other => line.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_in_a_field_ends_it() {
        let event = Event {
            tenant: "t",
            occurred_at: "now".into(),
            category: "c",
            action: "a\tb\\N".into(),
            severity: "info",
            resource: None,
            service_name: "s",
            provider: "p",
            actor_type: "user",
            actor_id: "x\ny".into(),
            details: json!({"k": "l\nm"}),
        };
        let line = event.copy_line();
        assert_eq!(line, "t\tnow\tc\ta\\tb\\\\N\tinfo\t\\N\ts\tp\tuser\tx\\ny\t{\"k\":\"l\\\\nm\"}\n");
        assert_eq!(line.matches('\n').count(), 1);
    }
}
