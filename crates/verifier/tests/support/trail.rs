//! Made-up trails, with what a database would export of them: events, intervals and checkpoints.

use std::fmt::Write as _;

use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::intervals::Interval;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::origin::Base;
use zeroauth_audit_core::tile::builder::Builder;
use zeroauth_audit_core::{Digest, PrivateFields, PublicFields, Salt, event_hash, private_hash};

/// The base origin of every trail.
pub const BASE: &str = "log.example/audit";

/// 2026-11-21T00:00:00Z.
pub const BEGIN: u64 = 1_795_219_200;

/// The key of the log.
pub fn key() -> SigningKey {
    SigningKey::from_seed(BASE, &[7; 32]).unwrap()
}

/// An event as exported, and its hash.
pub fn event(tenant: &str, chain: i16, seq: i64, prev: &Digest) -> (String, Digest) {
    let number = seq as u64;
    let micros = (BEGIN + number % 86_400) * 1_000_000 + number % 1_000_000;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&micros.to_be_bytes());
    id[8..10].copy_from_slice(&chain.to_be_bytes());
    id[10..].copy_from_slice(&number.to_be_bytes()[2..]);
    let mut salt = [0x5a; 16];
    salt[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let request = format!("req-{number:012x}");
    let resource = format!("invoice/{}", number % 100_000);
    let actor = format!("user-{}", number % 5000);
    let details = format!(
        "{{\"mfa\": {}, \"amount\": {}, \"note\": \"zoë & co\"}}",
        number.is_multiple_of(2),
        number % 977
    );
    let trace = format!("{:032x}", u128::from(number) * 0x0123_4567_89ab_cdef);
    let private = PrivateFields {
        actor_type: Some(b"user"),
        actor_id: Some(actor.as_bytes()),
        ip: Some(b"203.0.113.7/32"),
        user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64)"),
        error_message: None,
        details: Some(details.as_bytes()),
    };
    let public = PublicFields {
        tenant_id: Some(tenant.as_bytes()),
        chain: i64::from(chain),
        seq,
        event_id: id,
        occurred_at: micros as i64,
        recorded_at: micros as i64 + 1,
        category: Some(b"billing"),
        action: Some(b"invoice.read"),
        outcome: Some(b"success"),
        severity: Some(b"info"),
        resource: Some(resource.as_bytes()),
        service_name: Some(b"gateway"),
        env: Some(b"production"),
        request_id: Some(request.as_bytes()),
        trace_id: Some(trace.as_bytes()),
        status_code: Some(200),
        latency_ms: Some(number as i64 % 300),
        db_role: Some(b"app_writer"),
        ..PublicFields::default()
    };
    let hash = event_hash(prev, &public, &private_hash(&Salt::new(salt), &private));
    let time = |micros: u64| {
        let printed = zeroauth_audit_verifier::clock::print(micros / 1_000_000);
        format!("{}.{:06}+00:00", printed.trim_end_matches('Z'), micros % 1_000_000)
    };
    let (id, occurred, recorded) = (uuid(&id), time(micros), time(micros + 1));
    let (salt, latency) = (hex::encode(salt), number % 300);
    let (tenant, details) = (json(tenant), json(&details));
    let line = format!(
        "{{\"tenant_id\":{tenant},\"chain\":\"{chain}\",\"seq\":\"{seq}\",\"event_id\":\"{id}\",\"occurred_at\":\"{occurred}\",\"recorded_at\":\"{recorded}\",\
         \"category\":\"billing\",\"action\":\"invoice.read\",\"outcome\":\"success\",\"severity\":\"info\",\"resource\":\"{resource}\",\"service_name\":\"gateway\",\
         \"env\":\"production\",\"provider\":null,\"request_id\":\"{request}\",\"correlation_id\":null,\"trace_id\":\"{trace}\",\"span_id\":null,\"status_code\":\"200\",\
         \"latency_ms\":\"{latency}\",\"payload_size\":null,\"error_code\":null,\"db_role\":\"app_writer\",\"actor_type\":\"user\",\"actor_id\":\"{actor}\",\
         \"ip\":\"203.0.113.7/32\",\"user_agent\":\"Mozilla/5.0 (X11; Linux x86_64)\",\"error_message\":null,\"details\":{details},\"salt\":\"{salt}\",\
         \"private_hash\":null,\"prev_hash\":\"{prev}\",\"event_hash\":\"{hash}\",\"hash_version\":\"1\"}}"
    );
    (line, hash)
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn uuid(id: &[u8; 16]) -> String {
    let mut text = hex::encode(id);
    for at in [8, 13, 18, 23] {
        text.insert(at, '-');
    }
    text
}

/// One tenant's trail as it grows.
pub struct Trail {
    pub tenant: String,
    /// By chain: lines and hashes in the order of `seq`.
    pub chains: Vec<(Vec<String>, Vec<Digest>)>,
    sealed: Vec<usize>,
    log: Builder,
    pub leaves: Vec<Digest>,
    pub intervals: String,
}

impl Trail {
    /// An empty one.
    pub fn new(tenant: &str) -> Self {
        Self {
            tenant: tenant.into(),
            chains: Vec::new(),
            sealed: Vec::new(),
            log: Builder::resume(0, []).unwrap(),
            leaves: Vec::new(),
            intervals: String::new(),
        }
    }

    /// Appends events to a chain.
    pub fn append(&mut self, chain: usize, events: usize) {
        while self.chains.len() <= chain {
            self.chains.push(Default::default());
            self.sealed.push(0);
        }
        let (lines, hashes) = &mut self.chains[chain];
        for _ in 0..events {
            let prev = hashes.last().copied().unwrap_or(Digest::GENESIS);
            let (line, hash) = event(&self.tenant, chain as i16, lines.len() as i64 + 1, &prev);
            lines.push(line);
            hashes.push(hash);
        }
    }

    /// Seals what there is: the intervals, and what the checkpoint states.
    pub fn seal(&mut self) -> Checkpoint {
        let mut intervals = Vec::new();
        for (chain, (_, hashes)) in self.chains.iter().enumerate() {
            let (from, to) = (self.sealed[chain], hashes.len());
            for hash in &hashes[from..] {
                let leaf = leaf_hash(hash.as_bytes());
                self.leaves.push(leaf);
                self.log.push(leaf);
            }
            if to > from {
                intervals.push(Interval { chain: chain as i16, from: from as i64, to: to as i64 });
            }
            self.sealed[chain] = to;
        }
        let size = self.log.size();
        for Interval { chain, from, to } in intervals {
            let tenant = json(&self.tenant);
            writeln!(
                self.intervals,
                "{{\"tenant_id\":{tenant},\"epoch\":\"0\",\"tree_size\":\"{size}\",\"chain\":\"{chain}\",\"from\":\"{from}\",\"to\":\"{to}\"}}"
            )
            .unwrap();
        }
        let origin = Base::parse(BASE).unwrap().origin(&self.tenant, 0).unwrap();
        Checkpoint { origin, size, root: self.log.root() }
    }

    /// The export.
    pub fn export(&self) -> String {
        let lines = self.chains.iter().flat_map(|(lines, _)| lines);
        lines.fold(String::new(), |out, line| out + line + "\n")
    }
}
