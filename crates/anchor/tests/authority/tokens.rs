//! Which tokens hold, and why others do not.

use std::cell::RefCell;

use der::{Decode, Encode};
use proptest::prelude::*;
use zeroauth_audit_anchor::evidence::Error;
use zeroauth_audit_anchor::rfc3161::message::{TimeStampReq, TimeStampResp};
use zeroauth_audit_anchor::rfc3161::token::{Authorities, VerifiedToken, verify};

use super::tsa::{Authority, Options, Usage};

const HASH: [u8; 32] = [7; 32];

struct Stamped {
    query: Vec<u8>,
    nonce: Vec<u8>,
    reply: Vec<u8>,
    token: Vec<u8>,
    trusted: Authorities,
}

fn stamp(authority: &Authority, hash: &[u8; 32]) -> Stamped {
    let request = TimeStampReq::new(hash, [1, 2, 3, 4, 5, 6, 7, 8], None).unwrap();
    let query = request.to_der().unwrap();
    let reply = authority.reply(&query);
    let response = TimeStampResp::from_der(&reply).unwrap();
    assert!(response.status.is_granted(), "{}", response.status.words());
    Stamped {
        query,
        nonce: request.nonce.unwrap().as_bytes().to_vec(),
        reply,
        token: response.time_stamp_token.unwrap().to_der().unwrap(),
        trusted: Authorities::from_pem(authority.root.as_bytes()).unwrap(),
    }
}

fn verdict(options: &Options) -> Result<VerifiedToken, Error> {
    let stamped = stamp(&Authority::new(options), &HASH);
    verify(&stamped.token, &HASH, Some(&stamped.nonce), &stamped.trusted)
}

#[test]
fn public_report_d16_tokens_of_every_usual_key_digest_and_precision_hold() {
    let begun = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (key, digest, precision, ess, intermediate) in [
        ("P-256", "sha256", 0, "sha256", false),
        ("P-256", "sha384", 3, "sha1", true),
        ("P-384", "sha384", 6, "sha384", false),
        ("P-384", "sha256", 1, "sha512", true),
        // Digest and curve are independent of each other; ring lacks these two.
        ("P-256", "sha512", 0, "sha256", false),
        ("P-384", "sha512", 3, "sha512", true),
        ("RSA", "sha256", 3, "sha1", false),
        ("RSA", "sha384", 0, "sha256", true),
        ("RSA", "sha512", 6, "sha256", false),
    ] {
        let options = Options { key, digest, precision, ess, intermediate, ..Options::default() };
        let authority = Authority::new(&options);
        let stamped = stamp(&authority, &HASH);
        assert!(authority.openssl_accepts(&stamped.query, &stamped.reply), "{options:?}");
        let verified = verify(&stamped.token, &HASH, Some(&stamped.nonce), &stamped.trusted)
            .unwrap_or_else(|error| panic!("{options:?}: {error}"));
        assert!((begun..begun + 600).contains(&verified.seconds), "{verified:?}");
        assert_eq!(
            (verified.authority.as_str(), verified.policy.as_str()),
            ("CN=test authority", "1.3.6.1.4.1.99999.1")
        );
        assert_eq!(verified.serial, "0101");
    }
}

#[test]
fn certificates_that_are_signed_with_ecdsa_of_every_curve_and_digest_lead_to_the_authority() {
    for (issuer, certified_with) in [
        ("P-256", "sha256"),
        ("P-256", "sha384"),
        ("P-256", "sha512"),
        ("P-384", "sha256"),
        ("P-384", "sha384"),
        ("P-384", "sha512"),
    ] {
        for intermediate in [false, true] {
            let options =
                Options { issuer, certified_with: Some(certified_with), intermediate, ..Options::default() };
            let authority = Authority::new(&options);
            let stamped = stamp(&authority, &HASH);
            assert!(authority.openssl_accepts(&stamped.query, &stamped.reply), "{options:?}");
            let verified = verify(&stamped.token, &HASH, Some(&stamped.nonce), &stamped.trusted);
            assert!(verified.is_ok(), "{options:?}: {verified:?}");
            let other = Authority::new(&options);
            let trusted = Authorities::from_pem(other.root.as_bytes()).unwrap();
            let untrusted = Err(Error::NotTrusted("no path of certificates leads to a trusted one"));
            assert_eq!(verify(&stamped.token, &HASH, None, &trusted), untrusted);
        }
    }
}

#[test]
fn a_signature_with_sha_512_that_was_changed_or_is_none_does_not_hold() {
    for key in ["P-256", "P-384"] {
        let stamped = stamp(&Authority::new(&Options { key, digest: "sha512", ..Options::default() }), &HASH);
        let whole = &stamped.token;
        assert!(verify(whole, &HASH, None, &stamped.trusted).is_ok());
        // The signature is what a token ends with: an INTEGER pair of DER.
        for from_the_end in [1, 20, 40, 60] {
            for bit in [1, 0x80] {
                let mut changed = whole.clone();
                let at = changed.len() - from_the_end;
                changed[at] ^= bit;
                assert_eq!(
                    verify(&changed, &HASH, None, &stamped.trusted),
                    Err(Error::DoesNotHold("the signature"))
                );
            }
        }
        let (zeros, length) = (whole.len() - 30, whole.len());
        let mut none = whole.clone();
        none[zeros..length].fill(0);
        assert_eq!(verify(&none, &HASH, None, &stamped.trusted), Err(Error::DoesNotHold("the signature")));
    }
}

#[test]
fn a_token_of_other_data_or_of_another_request_does_not_hold() {
    let authority = Authority::new(&Options::default());
    let stamped = stamp(&authority, &HASH);
    let check = |hash, nonce: Option<&[u8]>| verify(&stamped.token, hash, nonce, &stamped.trusted);
    assert_eq!(check(&[8; 32], None), Err(Error::DoesNotHold("the token is of other data")));
    assert_eq!(check(&HASH, Some(&[1])), Err(Error::DoesNotHold("the token has another nonce")));
    assert!(check(&HASH, None).is_ok());
}

#[test]
fn an_authority_that_nobody_vouches_for_is_not_trusted() {
    let stamped = stamp(&Authority::new(&Options::default()), &HASH);
    let other = Authority::new(&Options::default());
    let trusted = Authorities::from_pem(other.root.as_bytes()).unwrap();
    let untrusted = Err(Error::NotTrusted("no path of certificates leads to a trusted one"));
    assert_eq!(verify(&stamped.token, &HASH, None, &trusted), untrusted);
    assert_eq!(verify(&stamped.token, &HASH, None, &Authorities::default()), untrusted);
    // Both at once, as while one is replaced by the other.
    let both = format!("{}{}", other.root, Authority::new(&Options::default()).root);
    assert_eq!(
        verify(&stamped.token, &HASH, None, &Authorities::from_pem(both.as_bytes()).unwrap()),
        untrusted
    );
    for pem in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert_eq!(
            Authorities::from_pem(pem.as_bytes()),
            Err(Error::Malformed("the file of authorities")),
            "{pem}"
        );
    }
}

/// The TSTInfo of a good token.
fn info() -> Vec<u8> {
    let stamped = stamp(&Authority::new(&Options::default()), &HASH);
    let signed: cms::signed_data::SignedData = {
        let token = cms::content_info::ContentInfo::from_der(&stamped.token).unwrap();
        token.content.decode_as().unwrap()
    };
    signed.encap_content_info.econtent.unwrap().value().to_vec()
}

fn carelessly(options: &Options, arguments: &[&str]) -> Result<VerifiedToken, Error> {
    let authority = Authority::new(options);
    let token = authority.sign_carelessly(&info(), arguments);
    verify(&token, &HASH, None, &Authorities::from_pem(authority.root.as_bytes()).unwrap())
}

#[test]
fn a_certificate_that_is_not_for_time_stamps_alone_is_not_trusted() {
    // Signed with the right certificate, such a token holds: what follows fails for its certificate.
    carelessly(&Options::default(), &["-cades"]).unwrap();
    for usage in
        [Usage::TimeStampingAndServers, Usage::TimeStampingNotCritical, Usage::Servers, Usage::Nothing]
    {
        assert_eq!(
            carelessly(&Options { usage, ..Options::default() }, &["-cades"]),
            Err(Error::NotTrusted("the signer's certificate is not for time stamps alone")),
            "{usage:?}"
        );
    }
}

#[test]
fn a_token_whose_certificate_is_not_signed_or_not_there_does_not_hold() {
    let good = Options::default();
    assert_eq!(carelessly(&good, &[]), Err(Error::DoesNotHold("the signer's certificate is not signed")));
    assert_eq!(carelessly(&good, &["-noattr"]), Err(Error::DoesNotHold("nothing but the content is signed")));
    assert_eq!(
        carelessly(&good, &["-cades", "-nocerts"]),
        Err(Error::DoesNotHold("the signer's certificate is not in the token"))
    );
}

#[test]
fn a_signer_that_is_named_by_its_key_is_found() {
    let authority = Authority::new(&Options { key_identifier: true, ..Options::default() });
    let token = authority.sign_carelessly(&info(), &["-cades", "-keyid"]);
    let trusted = Authorities::from_pem(authority.root.as_bytes()).unwrap();
    assert!(verify(&token, &HASH, None, &trusted).is_ok());
}

#[test]
fn what_counts_is_whether_the_certificate_was_valid_at_the_time_of_the_token() {
    assert_eq!(
        verdict(&Options { valid: (2000, 2001), ..Options::default() }),
        Err(Error::NotTrusted("a certificate had expired at that time"))
    );
    assert_eq!(
        verdict(&Options { valid: (2900, 2999), ..Options::default() }),
        Err(Error::NotTrusted("a certificate was not valid yet at that time"))
    );
}

#[test]
fn a_signature_or_certificate_with_weak_hashes_is_not_accepted() {
    assert_eq!(
        verdict(&Options { key: "RSA", digest: "sha1", ..Options::default() }),
        Err(Error::DoesNotHold("the digest algorithm"))
    );
}

#[test]
fn no_changed_bit_of_a_token_goes_unnoticed() {
    for options in
        [Options::default(), Options { key: "RSA", ess: "sha1", precision: 3, ..Options::default() }]
    {
        let stamped = stamp(&Authority::new(&options), &HASH);
        let whole = verify(&stamped.token, &HASH, Some(&stamped.nonce), &stamped.trusted).unwrap();
        let mut harmless = 0;
        for at in 0..stamped.token.len() * 8 {
            let mut token = stamped.token.clone();
            token[at / 8] ^= 1 << (at % 8);
            match verify(&token, &HASH, Some(&stamped.nonce), &stamped.trusted) {
                Err(_) => {}
                // What is not signed and not used may change: lists of algorithms, versions, parameters. What the token says may not.
                Ok(verified) => {
                    assert_eq!(verified, whole, "bit {at}");
                    harmless += 1;
                }
            }
        }
        assert!(harmless < stamped.token.len() / 2, "{harmless} of {}", stamped.token.len() * 8);
    }
}

thread_local! {
    static SEED: RefCell<Option<Stamped>> = const { RefCell::new(None) };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_cut_out_of_a_token_or_put_into_it_give_an_error_and_no_panic(
        from in any::<prop::sample::Index>(), length in 0..40usize, put in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        SEED.with_borrow_mut(|seed| {
            let seed = seed.get_or_insert_with(|| stamp(&Authority::new(&Options::default()), &HASH));
            let from = from.index(seed.token.len());
            let to = (from + length).min(seed.token.len());
            let token = [&seed.token[..from], &put, &seed.token[to..]].concat();
            if token != seed.token {
                let _ = verify(&token, &HASH, Some(&seed.nonce), &seed.trusted);
                let _ = TimeStampResp::from_der(&token);
            }
        });
    }
}
