//! Plain HTTP: what is sent, and what comes of every kind of answer.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zeroauth_audit_alert_delivery::{Outcome, Shipment, Target, signature};
use zeroauth_audit_test_servers::{Server, respond};

use super::route::{DEADLINE, Files, KEY, shipment};

fn to(server: &Server) -> Files {
    Files::webhook(&format!("http://{}", server.address))
}

#[test]
fn a_webhook_gets_the_very_body_with_a_signature_that_a_receiver_can_check() {
    let server = Server::status("204 No Content");
    assert_eq!(to(&server).attempt(&shipment()), Outcome::Delivered);
    let request = &server.requests()[0];
    assert_eq!(request.line, "POST /h00k?t0ken=1 HTTP/1.1");
    assert_eq!(request.body, "{\"é\": 1}".as_bytes());
    assert_eq!(request.header("Content-Type"), "application/json");
    assert_eq!(request.header("Zeroauth-Audit-Delivery"), "0d1e");
    assert_eq!(request.header("Host"), server.address.to_string());
    // "ann:pa55"
    assert_eq!(request.header("Authorization"), "Basic YW5uOnBhNTU=");
    let timestamp: u64 = request.header(signature::TIMESTAMP).parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let signed = request.header(signature::SIGNATURE);
    assert_eq!(signature::verify(KEY.as_bytes(), signed, timestamp, &request.body, now), Ok(()));
    assert_eq!(
        signature::verify(KEY.as_bytes(), signed, timestamp, b"forged", now),
        Err(signature::Error::Mismatch)
    );
    // By the recipe of docs/alerts.md, whose copy of a request is refused when it is forged or old.
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/alerts.md")).unwrap();
    let recipe = document.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    for (body, timestamp, genuine) in [
        ("{\"é\": 1}", timestamp, "True"),
        ("{\"é\": 2}", timestamp, "False"),
        ("{\"é\": 1}", timestamp - 1, "False"),
    ] {
        let call = format!(
            "{recipe}\nimport sys\nprint(genuine({KEY:?}.encode(), {{'Zeroauth-Audit-Timestamp': '{timestamp}', 'Zeroauth-Audit-Signature': '{signed}'}}, sys.argv[1].encode()))"
        );
        let output = Command::new("python3").args(["-c", &call, body]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), genuine, "{output:?}");
    }
    let old = signature::sign(KEY.as_bytes(), timestamp - 400, b"x");
    let call = format!(
        "{recipe}\nprint(genuine({KEY:?}.encode(), {{'Zeroauth-Audit-Timestamp': '{}', 'Zeroauth-Audit-Signature': '{old}'}}, b'x'))",
        timestamp - 400
    );
    let output = Command::new("python3").args(["-c", &call]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "False", "{output:?}");
    // As openssl computes it.
    let input = [timestamp.to_string().as_bytes(), b".", &request.body].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input");
    std::fs::write(&path, input).unwrap();
    let output = Command::new("openssl").args(["dgst", "-sha256", "-hmac", KEY]).arg(path).output().unwrap();
    let digest = String::from_utf8(output.stdout).unwrap().trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(signed, format!("v1={digest}"));
}

#[test]
fn the_status_says_what_came_of_it() {
    assert_eq!(to(&Server::status("200 OK")).attempt(&shipment()), Outcome::Delivered);
    let refused = |error: &str| Outcome::Refused { error: error.into() };
    let retry = |error: &str, after: Option<u64>| Outcome::Retry {
        error: error.into(),
        after: after.map(Duration::from_secs),
    };
    assert_eq!(
        to(&Server::status("400 Bad Request")).attempt(&shipment()),
        refused("the server answered 400")
    );
    assert_eq!(to(&Server::status("404 Not Found")).attempt(&shipment()), refused("the server answered 404"));
    assert_eq!(to(&Server::status("500 Oops")).attempt(&shipment()), retry("the server answered 500", None));
    assert_eq!(
        to(&Server::status("429 Slow\r\nRetry-After: 7")).attempt(&shipment()),
        retry("the server answered 429", Some(7))
    );
    assert_eq!(
        to(&Server::status("503 Gone\r\nRetry-After: 99999999")).attempt(&shipment()),
        retry("the server answered 503", Some(99_999_999))
    );
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Server::status("200 OK");
    for code in ["301", "302", "303", "307", "308"] {
        let location = format!("http://{}/", elsewhere.address);
        let server =
            Server::new(move |stream| respond(stream, &format!("{code} Elsewhere\r\nLocation: {location}")));
        assert_eq!(to(&server).retried(), format!("the server answered {code}: redirects are not followed"));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_server_that_hangs_is_given_up_in_time() {
    // It never answers.
    let silent = Server::new(|_| sleep(Duration::from_secs(30)));
    assert_eq!(to(&silent).retried(), "no answer in time");
    // It does not even read, and the body is larger than all buffers.
    let deaf = Server::deaf(|_| sleep(Duration::from_secs(30)));
    let large = Shipment { body: "x".repeat(8 << 20), ..shipment() };
    let outcome = to(&deaf).attempt(&large);
    assert!(matches!(outcome, Outcome::Retry { error, .. } if error == "no answer in time"));
    // It does not accept: its queue of connections is as good as an answer to the kernel, and nothing comes of it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let absent = Files::webhook(&format!("http://{}", listener.local_addr().unwrap()));
    assert_eq!(absent.retried(), "no answer in time");
}

#[test]
fn a_server_that_drips_is_given_up_in_time_however_often_it_sends_a_byte() {
    let server = Server::new(|stream| {
        for byte in "HTTP/1.1 200 OK\r\nX-Slow: ".bytes().chain(std::iter::repeat(b'x')) {
            if stream.write_all(&[byte]).and_then(|()| stream.flush()).is_err() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(to(&server).retried(), "no answer in time");
}

#[test]
fn an_endless_head_is_not_taken_in() {
    let server = Server::new(|stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n");
        for n in 0.. {
            if write!(stream, "X-{n}: {}\r\n", "x".repeat(1000)).is_err() {
                return;
            }
        }
    });
    // By its size, not by the clock.
    let error = to(&server).retried();
    assert!(
        ["the head of the answer is too large", "the answer is no HTTP"].contains(&error.as_str()),
        "{error}"
    );
}

#[test]
fn what_follows_the_head_is_not_waited_for() {
    for head in ["Transfer-Encoding: chunked", "Content-Length: 9999999999999", "Connection: close"] {
        let server = Server::new(move |stream| {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
            while write!(stream, "5\r\nhello\r\n").is_ok() {}
        });
        let begun = Instant::now();
        assert_eq!(to(&server).attempt(&shipment()), Outcome::Delivered, "{head}");
        assert!(begun.elapsed() < DEADLINE, "{head}: {:?}", begun.elapsed());
    }
    // Accepted is accepted, whether the rest of the answer arrives or not.
    let cut = Server::new(|stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    });
    assert_eq!(to(&cut).attempt(&shipment()), Outcome::Delivered);
}

#[test]
fn an_answer_that_is_cut_off_or_garbage_is_no_answer() {
    for start in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let server = Server::new(move |stream| {
            let _ = stream.write_all(start.as_bytes());
        });
        assert_eq!(to(&server).retried(), "the server closed the connection", "{start:?}");
    }
    for garbage in
        ["\u{1}\u{2}\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/9 200 OK\r\n\r\n"]
    {
        let server = Server::new(move |stream| {
            let _ = stream.write_all(garbage.as_bytes());
        });
        let error = to(&server).retried();
        assert!(
            ["the answer is no HTTP", "the server closed the connection"].contains(&error.as_str()),
            "{garbage:?}: {error}"
        );
    }
}

#[test]
fn nobody_there_is_said_as_such() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(Files::webhook(&format!("http://127.0.0.1:{port}")).retried(), "the connection was refused");
    let unknown = Files::webhook("https://no-such-host.invalid").retried();
    assert!(
        unknown.contains("name of the host") || unknown.starts_with("the connection failed"),
        "{unknown}"
    );
}

#[test]
fn each_bad_file_of_a_route_has_its_own_error_which_does_not_show_its_content() {
    let open = |files: &Files| Target::open(&files.route).unwrap_err();
    let mut files = Files::webhook("http://example.org");
    assert_eq!(open(&files), "the URL is not https:// (http:// is for loopback addresses only)");
    files = Files::webhook("http://127.0.0.1:1");
    std::fs::write(files.route.secret_file.as_ref().unwrap(), "short").unwrap();
    assert_eq!(open(&files), "the secret is shorter than 16 bytes");
    files.route.secret_file = None;
    assert_eq!(open(&files), "a webhook needs a secret file");
    std::fs::write(&files.route.url_file, [0xff, 0xfe]).unwrap();
    assert_eq!(open(&files), "the URL file does not hold one URL");
    let files = Files::webhook("https://127.0.0.1:1").trusting("no certificate");
    assert_eq!(open(&files), "the CA file holds no certificate");
    let target = Target::open(&Files::webhook("http://127.0.0.1:1").route).unwrap();
    assert_eq!(format!("{target:?}"), "Target { kind: Webhook, .. }");
}

/// Set for the process that [`a_proxy_of_the_environment_is_not_used`] starts.
const HELPER: &str = "ZEROAUTH_AUDIT_TEST_TO";

#[test]
fn helper_sends_once_when_started_for_it() {
    if let Ok(base) = std::env::var(HELPER) {
        assert_eq!(Files::webhook(&base).attempt(&shipment()), Outcome::Delivered);
    }
}

#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let (server, proxy) = (Server::status("200 OK"), Server::status("200 OK"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "answers::helper_sends_once_when_started_for_it"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, format!("http://{}", proxy.address));
    }
    let output = command.env(HELPER, format!("http://{}", server.address)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((server.requests().len(), proxy.connections()), (1, 0));
    server.over().store(true, Ordering::Relaxed);
}
