//! Receivers that hold requests against what Slack, PagerDuty and Opsgenie document, and answer as they do. Nothing but documented fields is
//! taken, within the documented lengths.

use serde_json::{Map, Value, json};

use crate::server::{Request, Server};

type Answer = (String, String);

fn answer(status: &str, body: impl Into<String>) -> Answer {
    (status.into(), body.into())
}

fn body(request: &Request) -> Option<Map<String, Value>> {
    let json =
        request.headers.iter().any(|(name, value)| name == "content-type" && value == "application/json");
    json.then(|| serde_json::from_slice(&request.body).ok()).flatten()
}

fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(format!("'{key}' is unknown")),
    }
}

/// A text of 1 to `most` characters.
fn text(fields: &Map<String, Value>, key: &str, most: usize) -> Result<(), String> {
    match fields.get(key) {
        Some(Value::String(text)) if (1..=most).contains(&text.chars().count()) => Ok(()),
        Some(_) => Err(format!("'{key}' is invalid")),
        None => Err(format!("'{key}' is missing")),
    }
}

/// An incoming webhook at `/services/T/B/X`.
pub fn slack() -> Server {
    Server::answering(|request| {
        if request.line != "POST /services/T/B/X HTTP/1.1" {
            return answer("404 Not Found", "no_service");
        }
        let Some(fields) = body(request) else { return answer("400 Bad Request", "invalid_payload") };
        if fields.get("text").is_none() && fields.get("blocks").is_none() {
            return answer("400 Bad Request", "no_text");
        }
        match only(&fields, &["text", "blocks"])
            .and_then(|()| text(&fields, "text", 40_000))
            .and_then(|()| blocks(&fields))
        {
            Ok(()) => answer("200 OK", "ok"),
            Err(_) => answer("400 Bad Request", "invalid_blocks"),
        }
    })
}

fn blocks(fields: &Map<String, Value>) -> Result<(), String> {
    let wrong = || Err("blocks".to_owned());
    let Some(blocks) = fields["blocks"].as_array().filter(|blocks| (1..=50).contains(&blocks.len())) else {
        return wrong();
    };
    let is_text = |object: &Value, most: usize| {
        let text = object["text"].as_str().unwrap_or_default();
        object["type"] == "mrkdwn" && (1..=most).contains(&text.chars().count()) && !text.contains("<!")
    };
    for block in blocks {
        let fields = block["fields"].as_array();
        let of_fields = fields.is_none_or(|fields| {
            (1..=10).contains(&fields.len()) && fields.iter().all(|field| is_text(field, 2000))
        });
        let of_text = block.get("text").is_none_or(|object| is_text(object, 3000));
        if block["type"] != "section"
            || !of_fields
            || !of_text
            || (fields.is_none() && block.get("text").is_none())
        {
            return wrong();
        }
    }
    Ok(())
}

/// The Events API v2 of an integration with this key.
pub fn pagerduty(routing_key: &'static str) -> Server {
    Server::answering(move |request| {
        let invalid = |errors: Vec<String>| {
            let body =
                json!({ "status": "invalid event", "message": "Event object is invalid", "errors": errors });
            answer("400 Bad Request", body.to_string())
        };
        if request.line != "POST /v2/enqueue HTTP/1.1" {
            return answer("404 Not Found", "");
        }
        let Some(event) = body(request) else { return invalid(vec!["invalid JSON".into()]) };
        match pagerduty_event(&event, routing_key) {
            Ok(()) => {
                let body = json!({ "status": "success", "message": "Event processed", "dedup_key": event["dedup_key"] });
                answer("202 Accepted", body.to_string())
            }
            Err(error) => invalid(vec![error]),
        }
    })
}

fn pagerduty_event(event: &Map<String, Value>, routing_key: &str) -> Result<(), String> {
    only(
        event,
        &["routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "links", "images"],
    )?;
    text(event, "routing_key", 32)?;
    if event["routing_key"] != routing_key {
        return Err(format!("Invalid routing key {}", event["routing_key"]));
    }
    text(event, "event_action", 20)?;
    let action = event["event_action"].as_str().unwrap_or_default();
    match action {
        "trigger" => {}
        "acknowledge" | "resolve" => text(event, "dedup_key", 255)?,
        _ => return Err("'event_action' is invalid".into()),
    }
    if event.contains_key("dedup_key") {
        text(event, "dedup_key", 255)?;
    }
    for link in event.get("links").and_then(Value::as_array).into_iter().flatten() {
        if !link["href"].as_str().is_some_and(|href| href.starts_with("http")) {
            return Err("'links' is invalid".into());
        }
    }
    let Some(payload) = event.get("payload").and_then(Value::as_object) else {
        return if action == "trigger" { Err("'payload' is missing".into()) } else { Ok(()) };
    };
    only(
        payload,
        &["summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"],
    )?;
    text(payload, "summary", 1024)?;
    text(payload, "source", 1000)?;
    let severities = ["critical", "error", "warning", "info"];
    let known =
        payload.get("severity").and_then(Value::as_str).is_some_and(|word| severities.contains(&word));
    if known { Ok(()) } else { Err("'severity' is invalid".into()) }
}

/// The Alert API v2 for who has this key.
pub fn opsgenie(key: &'static str) -> Server {
    Server::answering(move |request| {
        let said = |status: &str, message: &str| {
            answer(status, json!({ "message": message, "took": 0.001, "requestId": "0c1f" }).to_string())
        };
        let authorized: Vec<_> = request.headers.iter().filter(|(name, _)| name == "authorization").collect();
        if !matches!(authorized[..], [(_, value)] if *value == format!("GenieKey {key}")) {
            return said("401 Unauthorized", "Could not authenticate");
        }
        let Some(fields) = body(request) else {
            return said("422 Unprocessable Entity", "Request body is not processable");
        };
        let path =
            request.line.strip_prefix("POST /v2/alerts").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
        let checked = match path {
            Some("") => opsgenie_alert(&fields),
            Some(path) => opsgenie_action(path, &fields),
            None => return answer("404 Not Found", ""),
        };
        match checked {
            Ok(()) => {
                let body =
                    json!({ "result": "Request will be processed", "took": 0.302, "requestId": "43a2" });
                answer("202 Accepted", body.to_string())
            }
            Err(error) => said("422 Unprocessable Entity", &error),
        }
    })
}

fn opsgenie_alert(fields: &Map<String, Value>) -> Result<(), String> {
    only(
        fields,
        &[
            "message",
            "alias",
            "description",
            "responders",
            "visibleTo",
            "actions",
            "tags",
            "details",
            "entity",
            "source",
            "priority",
            "user",
            "note",
        ],
    )?;
    text(fields, "message", 130)?;
    text(fields, "alias", 512)?;
    text(fields, "description", 15_000)?;
    text(fields, "source", 100)?;
    let priority = fields.get("priority").and_then(Value::as_str).unwrap_or("P3");
    if !["P1", "P2", "P3", "P4", "P5"].contains(&priority) {
        return Err("'priority' is invalid".into());
    }
    let details = fields.get("details").and_then(Value::as_object);
    if !details.is_none_or(|details| details.values().all(Value::is_string)) {
        return Err("'details' is invalid".into());
    }
    let tags = fields.get("tags").and_then(Value::as_array);
    let few = |tags: &Vec<Value>| {
        tags.len() <= 20 && tags.iter().all(|tag| tag.as_str().is_some_and(|tag| tag.len() <= 50))
    };
    if tags.is_none_or(few) { Ok(()) } else { Err("'tags' is invalid".into()) }
}

fn opsgenie_action(path: &str, fields: &Map<String, Value>) -> Result<(), String> {
    let path = path.strip_suffix("?identifierType=alias").ok_or("'identifierType' is missing")?;
    let (alias, verb) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/')).ok_or("no alias")?;
    if alias.is_empty() || alias.contains('/') || !["acknowledge", "close"].contains(&verb) {
        return Err("no such action".into());
    }
    only(fields, &["user", "source", "note"])?;
    text(fields, "user", 100)?;
    text(fields, "source", 100)?;
    text(fields, "note", 25_000)
}
