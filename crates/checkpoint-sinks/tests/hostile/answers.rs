//! Plain HTTP: what is sent, and what comes of every kind of answer.

use std::net::TcpListener;
use std::thread::sleep;
use std::time::Duration;

use zeroauth_audit_checkpoint_sinks::{Answer, Shown};
use zeroauth_audit_test_servers::server::Stream;
use zeroauth_audit_test_servers::{Server, respond};

use super::files::{Files, NOTE, shown};

const SIZE: &str = "text/x.tlog.size";

fn answers(stream: &mut dyn Stream, status: &str, kind: &str, body: &[u8]) {
    let _ =
        write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(body);
}

/// What comes of that answer.
#[track_caller]
fn answer(status: &'static str, kind: &'static str, body: &'static [u8]) -> Result<Answer, String> {
    let server = Server::new(move |stream| answers(stream, status, kind, body));
    Files::to(&server).show()
}

#[test]
fn a_witness_gets_the_old_size_the_proof_and_the_very_note() {
    let server = Server::new(|stream| answers(stream, "200 OK", "text/plain", b"a line\n"));
    let files = Files::to(&server);
    assert_eq!(files.show(), Ok(Answer::Cosigned("a line\n".into())));
    assert_eq!(
        files.show_this(&Shown { old_size: 0, proof: vec![], note: NOTE.into() }),
        Ok(Answer::Cosigned("a line\n".into()))
    );
    let requests = server.requests();
    assert_eq!(requests[0].line, "POST /w1tness/add-checkpoint?t0ken=1 HTTP/1.1");
    // "ann:pa55"
    assert_eq!(requests[0].header("Authorization"), "Basic YW5uOnBhNTU=");
    assert_eq!(
        String::from_utf8(requests[0].body.clone()).unwrap(),
        format!(
            "old 4\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\nAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n\n{NOTE}"
        )
    );
    assert_eq!(String::from_utf8(requests[1].body.clone()).unwrap(), format!("old 0\n\n{NOTE}"));
}

#[test]
fn a_conflict_counts_only_with_a_size_of_the_right_kind() {
    for (kind, body, size) in [
        (SIZE, &b"0\n"[..], 0),
        (SIZE, b"9\n", 9),
        ("Text/X.Tlog.Size; charset=utf-8", b"12\n", 12),
        (SIZE, b"9223372036854775807\n", i64::MAX as u64),
    ] {
        assert_eq!(answer("409 Conflict", kind, body), Ok(Answer::SawSize(size)));
    }
    let without = Err("the witness answered 409 without a size".to_owned());
    for body in [
        &b""[..],
        b"\n",
        b"12",
        b"12\n\n",
        b"12\r\n",
        b"\n12\n",
        b" 12\n",
        b"+12\n",
        b"-1\n",
        b"012\n",
        b"0x12\n",
        b"1e3\n",
        b"12\n13\n",
        b"12 events\n",
        b"9223372036854775808\n",
        b"18446744073709551616\n",
        "\u{0661}\n".as_bytes(),
        b"<html>12</html>\n",
        b"1\x002\n",
    ] {
        assert_eq!(answer("409 Conflict", SIZE, body), without, "{body:?}");
    }
    // The size of something else, or of nothing that is said.
    for kind in ["text/plain", "text/x.tlog.sizes", "text/x.tlog", "application/json", "x; text/x.tlog.size"]
    {
        assert_eq!(answer("409 Conflict", kind, b"12\n"), without, "{kind}");
    }
    assert_eq!(Files::to(&Server::status("409 Conflict")).show(), without);
    // Not text at all.
    assert_eq!(answer("409 Conflict", SIZE, b"\xff\xfe\n"), Err("the answer is no text".into()));
}

#[test]
fn the_status_says_what_came_of_it() {
    assert_eq!(Files::to(&Server::status("422 No")).show(), Ok(Answer::Inconsistent));
    for status in ["400 Bad", "401 Who", "403 No", "404 Not Found", "410 Gone", "413 Large"] {
        let refused = Answer::Refused(format!("the witness answered {}", &status[..3]));
        assert_eq!(answer(status, "text/plain", b"pa55 is wrong"), Ok(refused));
    }
    // Another time it may take it.
    for status in [
        "201 Made",
        "204 None",
        "206 Part",
        "408 Slow",
        "425 Early",
        "429 Many",
        "500 Oops",
        "503 Later",
        "599 Odd",
    ] {
        let expected = Err(format!("the witness answered {}", &status[..3]));
        assert_eq!(Files::to(&Server::status(status)).show(), expected);
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Server::status("200 OK");
    for code in ["301", "302", "303", "307", "308"] {
        let location = format!("http://{}/", elsewhere.address);
        let server =
            Server::new(move |stream| respond(stream, &format!("{code} Elsewhere\r\nLocation: {location}")));
        assert_eq!(Files::to(&server).trouble(), format!("the witness answered {code}"));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_witness_that_hangs_is_given_up_in_time() {
    let silent = Server::new(|_| sleep(Duration::from_secs(30)));
    assert_eq!(Files::to(&silent).trouble(), "no answer in time");
    // It does not even read, and what is shown is larger than all buffers.
    let deaf = Server::deaf(|_| sleep(Duration::from_secs(30)));
    let large = Shown { note: "x".repeat(16 << 20), ..shown() };
    assert_eq!(Files::to(&deaf).show_this(&large), Err("no answer in time".into()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let absent = Files::at(&format!("http://{}", listener.local_addr().unwrap()));
    assert_eq!(absent.trouble(), "no answer in time");
    drop(listener);
    assert_eq!(absent.trouble(), "the connection was refused");
}

#[test]
fn a_witness_that_drips_is_given_up_in_time_in_its_head_and_in_its_signature() {
    for head in ["HTTP/1.1 200 OK\r\nX-Slow: ", "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"] {
        let server = Server::new(move |stream| {
            for byte in head.bytes().chain(std::iter::repeat(b'x')) {
                if stream.write_all(&[byte]).and_then(|()| stream.flush()).is_err() {
                    return;
                }
                sleep(Duration::from_millis(15));
            }
        });
        assert_eq!(Files::to(&server).trouble(), "no answer in time", "{head:?}");
    }
}

#[test]
fn an_answer_without_end_is_not_taken_to_its_end() {
    let endless = |head: &'static str, chunk: &'static [u8]| {
        Server::new(move |stream| {
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(chunk).is_ok() {}
        })
    };
    let cases = [
        ("HTTP/1.1 200 OK\r\nX-Large: ", &[b'x'; 4096][..], "the head of the answer is too large"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", &[b'x'; 4096], "the answer is too large"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"10\r\n0123456789abcdef\r\n",
            "the answer is too large",
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &[b'x'; 4096], "the answer is too large"),
        (
            "HTTP/1.1 409 Conflict\r\nContent-Type: text/x.tlog.size\r\nConnection: close\r\n\r\n",
            &[b'1'; 4096],
            "the answer is too large",
        ),
    ];
    for (head, chunk, error) in cases {
        assert_eq!(Files::to(&endless(head, chunk)).trouble(), error, "{head:?}");
    }
    // Where nothing of the body matters, nothing of it is read.
    let body = "HTTP/1.1 422 No\r\nContent-Length: 99999999999\r\n\r\n";
    assert_eq!(Files::to(&endless(body, &[b'x'; 4096])).show(), Ok(Answer::Inconsistent));
}

#[test]
fn an_answer_that_breaks_off_is_no_answer() {
    for (broken, error) in [
        ("", "the server closed the connection"),
        ("HTTP/1.1 200", "the server closed the connection"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\na line", "the server closed the connection"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1e\r\na li",
            "the server closed the connection",
        ),
        (
            "HTTP/1.1 409 Conflict\r\nContent-Type: text/x.tlog.size\r\nContent-Length: 4\r\n\r\n12\n",
            "the server closed the connection",
        ),
        ("\u{2014} witness.example AAAA\n\n", "the answer is no HTTP"),
        ("SSH-2.0-x\r\n\r\n", "the answer is no HTTP"),
        ("HTTP/1.1 999999 OK\r\n\r\n", "the answer is no HTTP"),
    ] {
        let server = Server::new(move |stream| {
            let _ = stream.write_all(broken.as_bytes());
        });
        assert_eq!(Files::to(&server).trouble(), error, "{broken:?}");
    }
}
