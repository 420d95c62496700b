//! A receiver of webhooks that keeps what it got: 200, or whatever it is told to answer, or nothing at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use zeroauth_audit_tests::Cluster;

/// Takes the connection and never answers.
pub const SILENT: u16 = 0;

pub struct Receiver {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Value>>>,
    answer: Arc<AtomicU16>,
}

impl Receiver {
    pub fn start() -> Self {
        Self::on("127.0.0.1:0")
    }

    /// On an address that was given to somebody before.
    pub fn on(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            got: Arc::default(),
            answer: Arc::new(AtomicU16::new(200)),
        };
        let (got, answer) = (Arc::clone(&receiver.got), Arc::clone(&receiver.answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (got, answer) = (Arc::clone(&got), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.unwrap());
                    let mut length = 0;
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        let line = line.trim_end().to_lowercase();
                        if let Some(value) = line.strip_prefix("content-length: ") {
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
                    got.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                    let status = answer.load(Ordering::Relaxed);
                    if status == SILENT {
                        // Until the other side has had enough.
                        let _ = reader.read(&mut [0]);
                        return;
                    }
                    let _ = write!(reader.get_mut(), "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                });
            }
        });
        receiver
    }

    pub fn answer(&self, status: u16) {
        self.answer.store(status, Ordering::Relaxed);
    }

    /// What came, in order.
    pub fn got(&self) -> Vec<Value> {
        self.got.lock().unwrap().clone()
    }

    /// `what level fingerprint` of each.
    pub fn notices(&self) -> Vec<String> {
        let told = |notice: &Value| {
            let word = |value: &Value| value.as_str().unwrap().to_owned();
            format!("{} {} {}", word(&notice["what"]), notice["level"], word(&notice["alert"]["fingerprint"]))
        };
        self.got().iter().map(told).collect()
    }
}

/// A file that only the server's user can read.
pub fn server_file(cluster: &Cluster, name: &str, content: &str) -> PathBuf {
    let path = cluster.data_dir().parent().unwrap().join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(cluster.data_dir()).unwrap());
    // Made by whoever runs the tests; given to the server if that is somebody else.
    let _ = chown(&path, Some(owner), None);
    path
}

/// SQL that makes a route to a webhook.
pub fn webhook(cluster: &Cluster, name: &str, address: SocketAddr) -> String {
    let url = server_file(cluster, &format!("{name}.url"), &format!("http://{address}/h00k?t0ken=1\n"));
    let key = server_file(cluster, &format!("{name}.key"), "a key of twenty bytes\n");
    format!(
        r#"SELECT audit_alert_route_set('{name}', 'webhook', '{{"url_file": "{}", "secret_file": "{}"}}')"#,
        url.display(),
        key.display()
    )
}
