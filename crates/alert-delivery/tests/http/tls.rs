//! TLS: only a certificate for that name, valid now, from an authority of the route.

use std::thread::sleep;
use std::time::Duration;

use rustls::ServerConfig;
use zeroauth_audit_alert_delivery::Outcome;
use zeroauth_audit_test_servers::{Authority, Server, respond};

use super::route::{Files, shipment};

fn ok(config: ServerConfig) -> Server {
    Server::tls(config, |stream| respond(stream, "200 OK"))
}

fn to(server: &Server) -> Files {
    Files::webhook(&format!("https://{}", server.address))
}

#[test]
fn a_server_with_a_certificate_from_the_route_s_authority_is_trusted() {
    let authority = Authority::new("ours");
    let by_address = ok(authority.serves("127.0.0.1", 2999));
    assert_eq!(to(&by_address).trusting(&authority.pem()).attempt(&shipment()), Outcome::Delivered);
    let by_name = ok(authority.serves("localhost", 2999));
    let files = Files::webhook(&format!("https://localhost:{}", by_name.address.port()));
    assert_eq!(files.trusting(&authority.pem()).attempt(&shipment()), Outcome::Delivered);
    assert_eq!(by_name.requests().len(), 1);
}

#[test]
fn any_other_certificate_is_refused_before_anything_is_sent() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let cases = [
        (
            ok(other.serves("127.0.0.1", 2999)),
            "the certificate is not from an authority that is trusted here",
        ),
        (ok(authority.serves("example.org", 2999)), "the certificate is for another name"),
        (ok(authority.serves("127.0.0.1", 2001)), "the certificate has expired"),
    ];
    for (server, error) in &cases {
        assert_eq!(to(server).trusting(&authority.pem()).retried(), format!("TLS failed: {error}"));
        assert!(server.requests().is_empty());
    }
    // Without a file of the route the system's authorities count, and those do not know this one.
    let server = ok(authority.serves("127.0.0.1", 2999));
    assert_eq!(to(&server).retried(), format!("TLS failed: {}", cases[0].1));
    assert!(server.requests().is_empty());
}

#[test]
fn a_server_that_fails_at_tls_is_said_so_and_nothing_is_sent_in_the_clear() {
    let authority = Authority::new("ours");
    let plain = Server::deaf(|stream| {
        respond(stream, "400 Bad Request");
        sleep(Duration::from_millis(500));
    });
    assert_eq!(to(&plain).trusting(&authority.pem()).retried(), "TLS failed: the server speaks no TLS there");
    let garbage = Server::deaf(|stream| {
        let _ = stream.write_all(&[0x16, 3, 3, 0, 4, 2, 0, 0, 0]);
        sleep(Duration::from_millis(200));
    });
    let error = to(&garbage).trusting(&authority.pem()).retried();
    assert!(error.starts_with("TLS failed") || error == "the server closed the connection", "{error}");
    let closes = Server::deaf(|_| ());
    assert_eq!(to(&closes).trusting(&authority.pem()).retried(), "the server closed the connection");
}

#[test]
fn a_handshake_that_hangs_or_drips_is_given_up_in_time() {
    let authority = Authority::new("ours");
    let silent = Server::deaf(|_| sleep(Duration::from_secs(30)));
    assert_eq!(to(&silent).trusting(&authority.pem()).retried(), "no answer in time");
    let drips = Server::deaf(|stream| {
        // The head of a record, then its content a byte at a time.
        for byte in [0x16, 3, 3, 0x3f, 0xff].into_iter().chain(std::iter::repeat(2)) {
            if stream.write_all(&[byte]).and_then(|()| stream.flush()).is_err() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(to(&drips).trusting(&authority.pem()).retried(), "no answer in time");
}
