//! How an alert reaches people: a webhook of the demo's own, and what arrives there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postgres::Client;
use serde_json::Value;
use zeroauth_audit_tests::OsUser;

use super::home;
use super::tamper::Tampered;

/// A worker begins the run, and a run of so few events takes no longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Listens for webhooks, each of which it accepts.
pub(crate) struct Inbox {
    notices: Receiver<Value>,
}

impl Inbox {
    /// Listens on a free port of this machine, and has alerts sent there. URL and key lie in files in `folder`.
    pub(crate) fn open(admin: &mut Client, folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the demo's webhook")?;
        let address = listener.local_addr()?;
        let (send, notices) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let send = send.clone();
                thread::spawn(move || accept(stream, &send));
            }
        });
        let file = |name: &str, content: &str| -> Result<String> {
            let path = home::secret(folder, name, content)?;
            OsUser::current()?.own(&path)?;
            Ok(path.display().to_string())
        };
        let url = file("webhook.url", &format!("http://{address}/alerts"))?;
        let key = file("webhook.key", "the demo's key, which signs")?;
        admin
            .execute(
                "SELECT audit_alert_route_set('demo', 'webhook', jsonb_build_object('url_file', $1::text, 'secret_file', $2::text))",
                &[&url, &key],
            )
            .context("cannot route alerts to the demo")?;
        Ok(Self { notices })
    }

    /// Has the drift replay run now instead of at its hour, and waits for the alert about the forged event; how long it took.
    pub(crate) fn wait_for(&self, admin: &mut Client, tampered: &Tampered) -> Result<(String, Duration)> {
        let since = Instant::now();
        admin
            .batch_execute("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'drift'")?;
        loop {
            let Ok(notice) = self.notices.recv_timeout(PATIENCE.saturating_sub(since.elapsed())) else {
                bail!("no alert about the forged event arrived within {PATIENCE:?}");
            };
            let alert = &notice["alert"];
            if alert["kind"] == "content_mismatch" && alert["tenant"] == tampered.tenant.as_str() {
                let message = alert["message"].as_str().unwrap_or_default().to_owned();
                return Ok((message, since.elapsed()));
            }
        }
    }
}

/// Takes one request, answers that it is safe, and passes its body on.
fn accept(stream: TcpStream, send: &Sender<Value>) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_ok() {
        let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        if let Ok(notice) = serde_json::from_slice(&body) {
            let _ = send.send(notice);
        }
    }
}
