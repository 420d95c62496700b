//! A message for an incoming webhook of Slack: `text`, which notifications show, and `blocks`, which the channel shows.
//!
//! Each turn of an alert is a message of its own: an incoming webhook cannot change one that is there. What is understood of Slack's
//! format is also Mattermost's and Rocket.Chat's, which show `text`.

use serde_json::{Value, json};

use crate::notice::{Notice, What, short};

/// Characters of a section's text at most, by Slack's limit of 3000 after escaping, and of a field's (2000).
const MOST_TEXT: usize = 2500;
const MOST_FIELD: usize = 300;

pub(crate) fn body(notice: &Notice) -> Value {
    let alert = &notice.alert;
    let severity = alert.severity();
    let turn = match notice.what {
        What::Raised => "raised".to_owned(),
        What::Escalated => format!("escalated to level {}", notice.level),
        What::Acknowledged => by("acknowledged", alert.acknowledged_by.as_deref()),
        What::Resolved => by("resolved", alert.resolved_by.as_deref()),
    };
    let head = format!("[{}] {} {turn}", severity.word(), alert.kind);
    let message = escaped(&alert.message, MOST_TEXT);
    let note = match notice.what {
        What::Acknowledged => alert.acknowledged_note.as_deref(),
        What::Resolved => alert.resolved_note.as_deref(),
        What::Raised | What::Escalated => None,
    };
    let mut blocks = vec![section(&format!("*{}*\n{message}", escaped(&head, MOST_FIELD)))];
    if let Some(note) = note {
        blocks.push(section(&format!("> {}", escaped(&note.replace('\n', " "), MOST_TEXT))));
    }
    let pairs = [
        ("severity", Some(severity.word())),
        ("priority", Some(&*severity.priority().to_string())),
        ("tenant", alert.tenant.as_deref()),
        ("database", Some(&*notice.database)),
        ("cluster", Some(&*notice.cluster)),
        ("alert", Some(&*alert.id.to_string())),
        ("fingerprint", Some(&*alert.fingerprint)),
        ("runbook_url", Some(&*alert.runbook_url())),
    ];
    let fields: Vec<Value> = pairs
        .into_iter()
        .filter_map(|(name, value)| {
            let text = format!("*{name}*\n{}", escaped(value?, MOST_FIELD));
            Some(json!({ "type": "mrkdwn", "text": text }))
        })
        .collect();
    blocks.push(json!({ "type": "section", "fields": fields }));
    json!({ "text": format!("{}: {message}", escaped(&head, MOST_FIELD)), "blocks": blocks })
}

fn by(turn: &str, whom: Option<&str>) -> String {
    whom.map_or_else(|| turn.to_owned(), |whom| format!("{turn} by {whom}"))
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

/// As Slack wants it: otherwise `<!channel>` in a message would call everybody.
fn escaped(text: &str, most: usize) -> String {
    let text: String = short(text, most).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    match escaped.len() <= most {
        true => escaped,
        // Many of these: without them it is short enough.
        false => text.replace(['&', '<', '>'], "?"),
    }
}
