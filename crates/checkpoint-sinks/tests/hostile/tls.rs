//! TLS: only a certificate for that name, valid now, from an authority of the witness'; before that nothing is shown.

use std::thread::sleep;
use std::time::Duration;

use zeroauth_audit_checkpoint_sinks::Answer;
use zeroauth_audit_test_servers::{Authority, Server, respond};

use super::files::Files;

fn to(server: &Server) -> Files {
    Files::at(&format!("https://{}", server.address))
}

#[test]
fn a_witness_with_a_certificate_from_its_authority_is_shown_the_checkpoint() {
    let authority = Authority::new("ours");
    let server = Server::tls(authority.serves("127.0.0.1", 2999), |stream| respond(stream, "422 No"));
    assert_eq!(to(&server).trusting(&authority.pem()).show(), Ok(Answer::Inconsistent));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn any_other_certificate_is_refused_before_anything_is_shown() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let unknown = "the certificate is not from an authority that is trusted here";
    for (config, error) in [
        (other.serves("127.0.0.1", 2999), unknown),
        (authority.serves("example.org", 2999), "the certificate is for another name"),
        (authority.serves("127.0.0.1", 2001), "the certificate has expired"),
    ] {
        let server = Server::tls(config, |stream| respond(stream, "200 OK"));
        assert_eq!(to(&server).trusting(&authority.pem()).trouble(), format!("TLS failed: {error}"));
        assert!(server.requests().is_empty());
    }
    let server = Server::tls(authority.serves("127.0.0.1", 2999), |stream| respond(stream, "200 OK"));
    assert_eq!(to(&server).trouble(), format!("TLS failed: {unknown}"));
    assert!(server.requests().is_empty());
}

#[test]
fn a_witness_that_fails_at_tls_is_shown_nothing_in_the_clear() {
    let authority = Authority::new("ours");
    let plain = Server::deaf(|stream| {
        respond(stream, "400 Bad Request");
        sleep(Duration::from_millis(500));
    });
    assert_eq!(to(&plain).trusting(&authority.pem()).trouble(), "TLS failed: the server speaks no TLS there");
    let silent = Server::deaf(|_| sleep(Duration::from_secs(30)));
    assert_eq!(to(&silent).trusting(&authority.pem()).trouble(), "no answer in time");
}
