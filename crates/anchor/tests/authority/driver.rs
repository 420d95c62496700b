//! The driver: what it asks, what it takes, and what it says of everything else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use zeroauth_audit_anchor::batch::{Batch, Hash, Moment};
use zeroauth_audit_anchor::evidence::{Error, RestsOn, rfc3161::Evidence};
use zeroauth_audit_anchor::failure::Failure;
use zeroauth_audit_anchor::machine::{Action, Phase, Policy, State};
use zeroauth_audit_anchor::pursue::{Store, pursue};
use zeroauth_audit_anchor::rfc3161::token::Authorities;
use zeroauth_audit_anchor::rfc3161::{Config, Rfc3161Driver};

use super::tsa::{Authority, Options, Server, ok};

fn batch() -> Batch {
    Batch {
        log_id: Batch::log_id("example.org/audit"),
        epoch: 3,
        root: Hash::sha256(b"root"),
        size: 10_000,
        batch_time: Moment(1_790_000_000),
    }
}

#[derive(Default)]
struct Memory {
    state: Option<State>,
    evidence: Option<Value>,
}

impl Store for Memory {
    type Error = std::convert::Infallible;

    fn state(
        &mut self,
        state: &State,
        _: &[zeroauth_audit_anchor::machine::Notice],
    ) -> Result<(), Self::Error> {
        let text = serde_json::to_string(state).unwrap();
        for secret in ["u53r", "pa55", "s3cret", "127.0.0.1"] {
            assert!(!text.contains(secret), "{text}");
        }
        self.state = Some(serde_json::from_str(&text).unwrap());
        Ok(())
    }

    fn evidence(&mut self, evidence: &Value) -> Result<(), Self::Error> {
        self.evidence = Some(evidence.clone());
        Ok(())
    }
}

struct Live {
    server: Server,
    root: String,
    folder: TempDir,
    memory: Memory,
    now: i64,
}

impl Live {
    fn start(options: &Options) -> Self {
        let authority = Authority::new(options);
        let root = authority.root.clone();
        Self {
            server: Server::of(authority),
            root,
            folder: tempfile::tempdir().unwrap(),
            memory: Memory { state: Some(State::planned(Moment(0))), evidence: None },
            now: 0,
        }
    }

    fn config(&self) -> Value {
        let file = |name: &str, content: &str| {
            let path = self.folder.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            path
        };
        json!({
            "url_file": file("url", &self.server.url),
            "authorities_file": file("authorities", &self.root),
            "timeout_seconds": 2,
        })
    }

    fn open(config: Value) -> Result<Rfc3161Driver, Failure> {
        Rfc3161Driver::open(&serde_json::from_value::<Config>(config).unwrap())
    }

    fn run(&mut self) -> Action {
        let driver = Self::open(self.config()).unwrap();
        let (now, state) = (Moment(self.now), self.memory.state.clone().unwrap());
        let (_, action) =
            pursue(&Policy::default(), &batch(), &driver, state, &mut self.memory, || now).unwrap();
        action
    }

    fn state(&self) -> State {
        self.memory.state.clone().unwrap()
    }

    #[track_caller]
    fn trouble(&self) -> String {
        self.state().trouble.expect("there is trouble").last.to_string()
    }
}

#[test]
fn a_batch_is_stamped_once_and_its_evidence_holds_offline() {
    let mut live = Live::start(&Options { precision: 3, intermediate: true, ..Options::default() });
    assert_eq!(live.run(), Action::Done);
    let state = live.state();
    assert_eq!((state.phase, state.evidence), (Phase::Finalized, true));
    assert_eq!(live.run(), Action::Done);
    assert_eq!(live.server.queries().len(), 1);
    let evidence: Evidence = serde_json::from_value(live.memory.evidence.clone().unwrap()).unwrap();
    let trusted = Authorities::from_pem(live.root.as_bytes()).unwrap();
    let verdict = evidence.verify(&batch().root, &trusted).unwrap();
    assert_eq!((verdict.epoch, verdict.seal), (Some(3), batch().seal()));
    assert_eq!(verdict.anchored_at, state.inclusion.unwrap().anchored_at);
    assert!(matches!(verdict.rests_on, RestsOn::Authority { name, .. } if name == "CN=test authority"));
    let other = Hash::sha256(b"other");
    assert_eq!(evidence.verify(&other, &trusted), Err(Error::OtherRoot { found: batch().root }));
    // Every part of the statement is stamped.
    for changed in [
        Evidence { epoch: 4, ..evidence.clone() },
        Evidence { log_id: other, ..evidence.clone() },
        Evidence { seal: Batch { size: 1, ..batch() }.seal(), ..evidence.clone() },
        Evidence { seal: Batch { batch_time: Moment(0), ..batch() }.seal(), ..evidence.clone() },
        Evidence { seal: Batch { root: other, ..batch() }.seal(), ..evidence },
    ] {
        assert_eq!(
            changed.verify(&changed.seal.root.clone(), &trusted),
            Err(Error::DoesNotHold("the token is of other data"))
        );
    }
}

#[test]
fn a_token_that_was_made_and_lost_is_requested_again_with_the_same_request() {
    let mut live = Live::start(&Options::default());
    let authority = Authority::new(&Options::default());
    live.root.clone_from(&authority.root);
    live.server = Server::new(move |query| {
        // Made, and the answer is cut off.
        ok(&authority.reply(query))[..40].to_vec()
    });
    live.run();
    assert_eq!(live.trouble(), "endpoint 1: the server closed the connection");
    let authority = Authority::new(&Options::default());
    live.root.clone_from(&authority.root);
    live.server.behave(move |query| ok(&authority.reply(query)));
    live.now = 3600;
    assert_eq!(live.run(), Action::Done);
    let queries = live.server.queries();
    assert_eq!((queries.len(), &queries[0]), (2, &queries[1]));
}

#[test]
fn answers_that_are_no_token_of_ours_are_refused_each_with_its_own_error() {
    let mut live = Live::start(&Options::default());
    let good = Authority::new(&Options::default());
    live.root.clone_from(&good.root);
    let replayed = {
        let old = zeroauth_audit_anchor::rfc3161::message::TimeStampReq::new(
            &Hash::sha256(batch().statement().as_bytes()).0,
            [9; 8],
            None,
        );
        good.reply(&der::Encode::to_der(&old.unwrap()).unwrap())
    };
    let other = Authority::new(&Options::default());
    let expired = Authority::new(&Options { valid: (2000, 2001), ..Options::default() });
    live.root.push_str(&expired.root);
    type Case = (Box<dyn Fn(&[u8]) -> Vec<u8> + Send>, &'static str);
    let cases: Vec<Case> = vec![
        (
            Box::new(move |_| ok(&replayed)),
            "the answer does not hold: the evidence does not hold: the token has another nonce",
        ),
        (
            Box::new(move |query| ok(&other.reply(query))),
            "the answer does not hold: nobody who is trusted vouches for the evidence: no path of certificates leads to a trusted one",
        ),
        (
            Box::new(move |query| ok(&expired.reply(query))),
            "the answer does not hold: nobody who is trusted vouches for the evidence: a certificate had expired at that time",
        ),
        (Box::new(|_| ok(b"<html>")), "endpoint 1: the answer to the request is no time-stamp response"),
        (Box::new(|_| ok(b"")), "endpoint 1: the answer to the request is no time-stamp response"),
        // SEQUENCE { SEQUENCE { INTEGER 2, BIT STRING } }, with failures beyond the fifteenth bit.
        (
            Box::new(|_| ok(&[0x30, 11, 0x30, 9, 2, 1, 2, 3, 4, 6, 0, 0, 0x40])),
            "the authority refused: rejection (addInfoNotAvailable)",
        ),
        (
            Box::new(|_| ok(&[0x30, 12, 0x30, 10, 2, 1, 2, 3, 5, 6, 0, 0, 0, 0x40])),
            "the authority refused: rejection (systemFailure)",
        ),
        (
            Box::new(|_| ok(&[0x30, 5, 0x30, 3, 2, 1, 0])),
            "endpoint 1: the answer to the request grants, and has no token",
        ),
        (
            Box::new(|_| b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec()),
            "endpoint 1: the answer to the request has status 500",
        ),
        (
            Box::new(|_| {
                b"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec()
            }),
            "endpoint 1: the answer to the request has status 302",
        ),
        (Box::new(|_| ok(&vec![0x30; 1 << 20])), "endpoint 1: the answer to the request is too large"),
        (Box::new(|_| Vec::new()), "endpoint 1: the server closed the connection"),
    ];
    for (answer, expected) in cases {
        live.server.behave(answer);
        live.run();
        assert_eq!(live.trouble(), expected);
        assert_ne!(live.state().phase, Phase::Finalized);
        live.now += 3600;
    }
    live.server.behave(move |query| ok(&good.reply(query)));
    assert_eq!(live.run(), Action::Done);
}

#[test]
fn a_server_that_hangs_is_given_up_in_time() {
    let mut live = Live::start(&Options::default());
    live.server.behave(|_| {
        std::thread::sleep(Duration::from_secs(20));
        Vec::new()
    });
    let begun = Instant::now();
    live.run();
    assert_eq!(live.trouble(), "endpoint 1: no answer in time");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn the_configured_policy_is_requested() {
    let mut live = Live::start(&Options::default());
    let mut config = live.config();
    config["policy"] = json!("1.3.6.1.4.1.99999.2");
    let driver = Live::open(config.clone()).unwrap();
    let state = live.state();
    pursue(&Policy::default(), &batch(), &driver, state, &mut live.memory, || Moment(0)).unwrap();
    let evidence: Evidence = serde_json::from_value(live.memory.evidence.clone().unwrap()).unwrap();
    let trusted = Authorities::from_pem(live.root.as_bytes()).unwrap();
    let RestsOn::Authority { policy, .. } = evidence.verify(&batch().root, &trusted).unwrap().rests_on else {
        panic!("no authority")
    };
    assert_eq!(policy, "1.3.6.1.4.1.99999.2");
    config["policy"] = json!("gold");
    assert_eq!(
        Live::open(config.clone()).err().unwrap().to_string(),
        "the configuration of the target names a policy that is no object identifier"
    );
    config["policy"] = json!("1.3.6.1.4.1.99999.7");
    let driver = Live::open(config).unwrap();
    live.memory.state = Some(State::planned(Moment(0)));
    let state = live.state();
    pursue(&Policy::default(), &batch(), &driver, state, &mut live.memory, || Moment(0)).unwrap();
    assert_eq!(live.trouble(), "the authority refused: rejection (unacceptedPolicy)");
}
