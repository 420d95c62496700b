//! A witness (C2SP tlog-witness): keeps the newest checkpoint of each log that it was told to watch, and signs what grew from it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::verify_consistency;
use zeroauth_audit_core::note::{Algorithm, Note, SigningKey};
use zeroauth_audit_core::trust::Trust;

#[derive(Default)]
struct State {
    /// Size and root, by origin.
    seen: BTreeMap<String, (u64, Digest)>,
    /// Answers this status to everything.
    broken: Option<u16>,
}

pub struct Witness {
    pub address: SocketAddr,
    /// The origin of the registry that it watches.
    registry: String,
    key: Arc<SigningKey>,
    state: Arc<Mutex<State>>,
}

impl Witness {
    /// Watches the registry of the key's name.
    pub fn start(watched: &SigningKey, seed: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut trust = Trust::new();
        trust.add_log(watched.verifier_key()).unwrap();
        let trust = Arc::new(trust);
        let witness = Self {
            address: listener.local_addr().unwrap(),
            registry: watched.name().to_owned(),
            key: Arc::new(SigningKey::from_seed("witness.example", &[seed; 32]).unwrap()),
            state: Arc::default(),
        };
        let (key, state) = (Arc::clone(&witness.key), Arc::clone(&witness.state));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (trust, key, state) = (Arc::clone(&trust), Arc::clone(&key), Arc::clone(&state));
                thread::spawn(move || serve(stream.unwrap(), &trust, &key, &state));
            }
        });
        witness
    }

    /// Its public key.
    pub fn vkey(&self) -> String {
        self.key.verifier_key().renamed("witness.example", Algorithm::CosignatureV1).to_string()
    }

    /// How many entries of the registry it saw.
    pub fn entries(&self) -> u64 {
        self.state.lock().unwrap().seen.get(&self.registry).map_or(0, |(size, _)| *size)
    }

    /// Forgets, or is told, what it saw of a log.
    pub fn remember(&self, origin: &str, seen: Option<(u64, Digest)>) {
        let mut state = self.state.lock().unwrap();
        match seen {
            Some(seen) => state.seen.insert(origin.to_owned(), seen),
            None => state.seen.remove(origin),
        };
    }

    pub fn break_with(&self, status: Option<u16>) {
        self.state.lock().unwrap().broken = status;
    }
}

fn serve(stream: TcpStream, trust: &Trust, key: &SigningKey, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    let (mut length, mut first) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().to_owned();
        if first.is_empty() {
            first.clone_from(&line);
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let mut state = state.lock().unwrap();
    let (status, kind, answer) = match state.broken {
        Some(status) => (status, "text/plain", String::new()),
        None if first != "POST /add-checkpoint HTTP/1.1" => (404, "text/plain", String::new()),
        None => add(&String::from_utf8(body).unwrap(), trust, key, &mut state.seen),
    };
    let _ = write!(
        reader.get_mut(),
        "HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    );
}

fn add(
    body: &str,
    trust: &Trust,
    key: &SigningKey,
    seen: &mut BTreeMap<String, (u64, Digest)>,
) -> (u16, &'static str, String) {
    let plain = |status| (status, "text/plain", String::new());
    let Some((head, note)) = body.split_once("\n\n") else { return plain(400) };
    let mut lines = head.lines();
    let Some(old) = lines.next().and_then(|line| line.strip_prefix("old ")?.parse::<u64>().ok()) else {
        return plain(400);
    };
    let decode = |line: &str| Digest::from_slice(&STANDARD.decode(line).ok()?);
    let Some(proof) = lines.map(decode).collect::<Option<Vec<_>>>() else { return plain(400) };
    let Ok(registry) = trust.registry(note.as_bytes()) else { return plain(403) };
    let checkpoint = registry.checkpoint;
    if old > checkpoint.size {
        return plain(400);
    }
    let known = seen.get(&checkpoint.origin).copied();
    let (size, root) = known.unwrap_or((0, checkpoint.root));
    if size != old || size == checkpoint.size && size > 0 && root != checkpoint.root {
        return (409, "text/x.tlog.size", format!("{size}\n"));
    }
    if size > 0 && verify_consistency(size, checkpoint.size, &root, &checkpoint.root, &proof).is_err() {
        return plain(422);
    }
    let text = Note::parse(note.as_bytes()).unwrap().text().to_owned();
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    seen.insert(checkpoint.origin, (checkpoint.size, checkpoint.root));
    (200, "text/plain", key.cosign("witness.example", time, &text).unwrap())
}
