//! Endpoints that answer anything: each call ends in time, takes in a bounded amount, and says in fixed words what was wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::live::Live;
use super::proxy::Behaviour;

/// The trouble with a second endpoint like this, and how long it took to find out.
fn trouble(behaviour: Behaviour) -> (String, Duration) {
    let mut live = Live::start();
    live.second.behave(behaviour);
    let mut config = live.config();
    config["timeout_seconds"] = json!(2);
    let driver = Live::driver_of(config);
    let begun = Instant::now();
    live.run_with(&driver);
    let took = begun.elapsed();
    assert_eq!(live.events(), [], "nothing is sent on the word of one");
    (live.trouble(), took)
}

fn says(bytes: impl Into<Vec<u8>>) -> String {
    trouble(Behaviour::Says(Arc::new(bytes.into()))).0
}

fn with_body(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn an_endpoint_that_hangs_is_given_up_in_time() {
    let (trouble, took) = trouble(Behaviour::Hangs);
    assert_eq!(trouble, "endpoint 2: no answer in time");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn answers_that_are_no_answers_have_errors_of_their_own() {
    assert_eq!(says(with_body("<html>")), "endpoint 2: the answer to eth_chainId is no JSON");
    assert_eq!(says(with_body("{\"id\":1}")), "endpoint 2: the answer to eth_chainId is no JSON-RPC");
    assert_eq!(
        says(with_body(r#"{"id":9,"result":"0x1"}"#)),
        "endpoint 2: the answer to eth_chainId is for another request"
    );
    assert_eq!(
        says(with_body(r#"{"id":1,"result":{"a":1}}"#)),
        "endpoint 2: the answer to eth_chainId is not of the expected form"
    );
    assert_eq!(
        says(with_body(r#"{"id":1,"error":{"code":-32005,"message":"u53r pa55"}}"#)),
        "endpoint 2: eth_chainId failed with error -32005"
    );
    assert_eq!(says(with_body(&"[".repeat(100_000))), "endpoint 2: the answer to eth_chainId is no JSON");
    assert_eq!(
        says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        "endpoint 2: the server closed the connection"
    );
    assert_eq!(
        says("HTTP/1.1 503 Gone\r\nContent-Length: 0\r\n\r\n"),
        "endpoint 2: the answer to eth_chainId has status 503"
    );
    assert_eq!(
        says("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
        "endpoint 2: the answer to eth_chainId has status 302"
    );
}

#[test]
fn a_huge_answer_is_not_taken_in() {
    let body = format!("{{\"id\":1,\"result\":\"{}\"}}", "0".repeat(2 << 20));
    assert_eq!(says(with_body(&body)), "endpoint 2: the answer to eth_chainId is too large");
}

#[test]
fn an_endless_answer_ends_by_its_size_or_by_the_clock() {
    let chunk = b"5\r\nhello\r\n".repeat(1000);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (trouble, took) =
        trouble(Behaviour::NeverEnds(Arc::new([head.as_bytes(), chunk.as_slice()].concat())));
    // The second head inside of the body is no chunk.
    assert!(
        trouble == "endpoint 2: the answer to eth_chainId is too large"
            || trouble.starts_with("endpoint 2: the "),
        "{trouble}"
    );
    assert!(took < Duration::from_secs(20), "{took:?}");
}
