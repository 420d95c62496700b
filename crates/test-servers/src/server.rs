//! A server whose every answer is up to the test: it reads one request of a connection and hands the connection over.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// One request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `POST /path HTTP/1.1`
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let name = name.to_lowercase();
        let found: Vec<_> = self.headers.iter().filter(|(known, _)| *known == name).collect();
        assert_eq!(found.len(), 1, "{name} in {self:?}");
        &found[0].1
    }

    fn read(stream: impl Read) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut request = Request::default();
        reader.read_line(&mut request.line).ok().filter(|n| *n > 0)?;
        request.line.truncate(request.line.trim_end().len());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            request.headers.push((name.to_lowercase(), value.to_owned()));
        }
        let length = request.headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body).ok()?;
        Some(request)
    }
}

/// Ends with the test program; its threads are never waited for.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    /// Set when the test is over: handlers that go on for ever look at it.
    over: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Server {
    /// Reads a request and lets `answer` write what it likes.
    pub fn new(answer: impl Fn(&mut dyn Stream) + Send + Sync + 'static) -> Self {
        Self::start(None, true, answer)
    }

    /// Does not even read.
    pub fn deaf(answer: impl Fn(&mut dyn Stream) + Send + Sync + 'static) -> Self {
        Self::start(None, false, answer)
    }

    /// With TLS.
    pub fn tls(config: ServerConfig, answer: impl Fn(&mut dyn Stream) + Send + Sync + 'static) -> Self {
        Self::start(Some(Arc::new(config)), true, answer)
    }

    /// Answers each request with what `answer` makes of it: a status, such as `400 Bad Request`, and a body.
    pub fn answering(answer: impl Fn(&Request) -> (String, String) + Send + Sync + 'static) -> Self {
        Self::started(None, true, move |request, stream| {
            let (status, body) = request.map(&answer).unwrap_or_default();
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        })
    }

    /// Always the same status.
    pub fn status(status: &'static str) -> Self {
        Self::new(move |stream| respond(stream, status))
    }

    fn start(
        tls: Option<Arc<ServerConfig>>,
        read: bool,
        answer: impl Fn(&mut dyn Stream) + Send + Sync + 'static,
    ) -> Self {
        Self::started(tls, read, move |_, stream| answer(stream))
    }

    fn started(
        tls: Option<Arc<ServerConfig>>,
        read: bool,
        answer: impl Fn(Option<&Request>, &mut dyn Stream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
            over: Arc::default(),
        };
        let (requests, connections) = (Arc::clone(&server.requests), Arc::clone(&server.connections));
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream: TcpStream = stream.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                let (tls, requests, answer) = (tls.clone(), Arc::clone(&requests), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut stream: Box<dyn Stream> = match tls {
                        Some(config) => {
                            Box::new(StreamOwned::new(ServerConnection::new(config).unwrap(), stream))
                        }
                        None => Box::new(stream),
                    };
                    let request = if read { Request::read(&mut stream) } else { None };
                    if read && request.is_none() {
                        return;
                    }
                    requests.lock().unwrap().extend(request.clone());
                    answer(request.as_ref(), &mut stream);
                    let _ = stream.flush();
                });
            }
        });
        server
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Becomes true when the server is dropped.
    pub fn over(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.over)
    }
}

/// A whole answer without a body.
pub fn respond(stream: &mut dyn Stream, status: &str) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
}
