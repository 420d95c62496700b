//! An endpoint that behaves as the test says: it passes requests on to the chain, or does not, or lies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::anvil::{Anvil, call};

type Rewrite = Arc<dyn Fn(&str, &Value, Value) -> Value + Send + Sync>;

/// How the endpoint behaves.
#[derive(Clone)]
pub enum Behaviour {
    /// As the chain does.
    Honest,
    /// Nobody there.
    Down,
    /// Takes the request, and never answers.
    Hangs,
    /// Passes calls of this method on, and loses the answer.
    DoneButLost(&'static str),
    /// Answers every call with these bytes.
    Says(Arc<Vec<u8>>),
    /// Answers these bytes again and again, without an end.
    NeverEnds(Arc<Vec<u8>>),
    /// Changes results: (method, params, answer) -> answer.
    Lies(Rewrite),
}

impl Behaviour {
    pub fn lies(rewrite: impl Fn(&str, &Value, Value) -> Value + Send + Sync + 'static) -> Self {
        Self::Lies(Arc::new(rewrite))
    }
}

pub struct Proxy {
    pub address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    methods: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn of(anvil: &Anvil) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            behaviour: Arc::new(Mutex::new(Behaviour::Honest)),
            methods: Arc::default(),
        };
        let (behaviour, methods) = (Arc::clone(&proxy.behaviour), Arc::clone(&proxy.methods));
        let upstream = anvil.url();
        // Ends with the test program; nobody waits for it.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let behaviour = behaviour.lock().unwrap().clone();
                let (methods, upstream) = (Arc::clone(&methods), upstream.clone());
                thread::spawn(move || serve(stream, &behaviour, &methods, &upstream));
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        // A user that must not show up anywhere.
        format!("http://u53r:pa55@{}/s3cret", self.address)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// The methods that were called so far.
    pub fn methods(&self) -> Vec<String> {
        self.methods.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, behaviour: &Behaviour, methods: &Mutex<Vec<String>>, upstream: &str) {
    if matches!(behaviour, Behaviour::Down) {
        return;
    }
    let Some(request) = request(&stream) else { return };
    let method = request["method"].as_str().unwrap_or_default().to_owned();
    methods.lock().unwrap().push(method.clone());
    let answer = || match call(upstream, &method, request["params"].clone()) {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }),
    };
    match behaviour {
        Behaviour::Down => {}
        Behaviour::Honest => respond(&mut stream, answer()),
        Behaviour::DoneButLost(lost) if method == *lost => drop(answer()),
        Behaviour::DoneButLost(_) => respond(&mut stream, answer()),
        Behaviour::Lies(rewrite) => {
            let answer = rewrite(&method, &request["params"], answer());
            respond(&mut stream, answer);
        }
        Behaviour::Says(bytes) => drop(stream.write_all(bytes)),
        Behaviour::NeverEnds(bytes) => while stream.write_all(bytes).is_ok() {},
        Behaviour::Hangs => {
            // Until the other side has had enough.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
            let _ = stream.read(&mut [0]);
        }
    }
}

fn respond(stream: &mut TcpStream, answer: Value) {
    let body = answer.to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn request(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
