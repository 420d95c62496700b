//! An authority: certificates of our own making, and `openssl ts` behind them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use tempfile::TempDir;

/// What the certificate says that its key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    TimeStamping,
    TimeStampingNotCritical,
    TimeStampingAndServers,
    Servers,
    Nothing,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// `P-256`, `P-384` or `RSA`.
    pub key: &'static str,
    pub usage: Usage,
    /// First and last year in which the certificate is valid.
    pub valid: (i32, i32),
    pub digest: &'static str,
    pub precision: u32,
    pub ess: &'static str,
    pub intermediate: bool,
    /// `P-256` or `P-384`: the keys that vouch for it.
    pub issuer: &'static str,
    /// The digest of the signatures on certificates, if not the one that goes with the curve.
    pub certified_with: Option<&'static str>,
    /// Whether the certificate names its key.
    pub key_identifier: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            key: "P-256",
            usage: Usage::TimeStamping,
            valid: (2000, 2999),
            digest: "sha256",
            precision: 0,
            ess: "sha256",
            intermediate: false,
            issuer: "P-256",
            certified_with: None,
            key_identifier: false,
        }
    }
}

pub struct Authority {
    folder: TempDir,
    /// PEM of the certificate that vouches for it.
    pub root: String,
    /// The serial file has no lock.
    one_at_a_time: Mutex<()>,
}

impl Authority {
    pub fn new(options: &Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let root_key = key(options.issuer, folder.path());
        let root_params = ca("root");
        let root = root_params.self_signed(&root_key).unwrap().pem();
        let mut above = (root.clone(), root_key.serialize_pem());
        let mut issuer = Issuer::new(root_params, root_key);
        let mut certs = String::new();
        if options.intermediate {
            let key = key(options.issuer, folder.path());
            let params = ca("in between");
            let certificate = match options.certified_with {
                None => params.signed_by(&key, &issuer).unwrap().pem(),
                Some(digest) => {
                    certified(digest, folder.path(), &params.self_signed(&key).unwrap().pem(), &above)
                }
            };
            fs::write(at("certs.pem"), &certificate).unwrap();
            above = (certificate, key.serialize_pem());
            certs = format!("certs = {}\n", at("certs.pem").display());
            issuer = Issuer::new(params, key);
        }
        let key = key(options.key, folder.path());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) =
            (date_time_ymd(options.valid.0, 1, 1), date_time_ymd(options.valid.1, 12, 31));
        params.custom_extensions.extend(usage(options.usage));
        if options.key_identifier {
            let identifier = CustomExtension::from_oid_content(&[2, 5, 29, 14], vec![4, 4, 1, 2, 3, 4]);
            params.custom_extensions.push(identifier);
        }
        let certificate = match options.certified_with {
            None => params.signed_by(&key, &issuer).unwrap().pem(),
            Some(digest) => {
                certified(digest, folder.path(), &params.self_signed(&key).unwrap().pem(), &above)
            }
        };
        fs::write(at("tsa.pem"), certificate).unwrap();
        fs::write(at("key.pem"), key.serialize_pem()).unwrap();
        fs::write(at("serial"), "0100\n").unwrap();
        let path = |name| at(name).display().to_string();
        let config = format!(
            "[tsa]\ndefault_tsa = one\n[one]\nserial = {}\nsigner_cert = {}\n{certs}signer_key = {}\nsigner_digest = {}\n\
             default_policy = 1.3.6.1.4.1.99999.1\nother_policies = 1.3.6.1.4.1.99999.2\ndigests = sha256\naccuracy = secs:1\n\
             clock_precision_digits = {}\nordering = no\ntsa_name = yes\ness_cert_id_chain = no\ness_cert_id_alg = {}\n",
            path("serial"),
            path("tsa.pem"),
            path("key.pem"),
            options.digest,
            options.precision,
            options.ess,
        );
        fs::write(at("tsa.cnf"), config).unwrap();
        Self { folder, root, one_at_a_time: Mutex::new(()) }
    }

    /// The response to a query.
    pub fn reply(&self, query: &[u8]) -> Vec<u8> {
        let _turn = self.one_at_a_time.lock().unwrap();
        let at = |name: &str| self.folder.path().join(name);
        fs::write(at("query"), query).unwrap();
        let output = Command::new("openssl")
            .args(["ts", "-reply", "-config"])
            .arg(at("tsa.cnf"))
            .arg("-queryfile")
            .arg(at("query"))
            .arg("-out")
            .arg(at("reply"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(at("reply")).unwrap()
    }

    /// Signs a TSTInfo as any CMS, without any of the care that an authority takes: a token.
    pub fn sign_carelessly(&self, info: &[u8], arguments: &[&str]) -> Vec<u8> {
        let _turn = self.one_at_a_time.lock().unwrap();
        let at = |name: &str| self.folder.path().join(name);
        fs::write(at("info"), info).unwrap();
        let mut command = Command::new("openssl");
        command.args(["cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-md", "sha256"]);
        command.args(["-econtent_type", "1.2.840.113549.1.9.16.1.4"]).args(arguments);
        for (argument, name) in
            [("-in", "info"), ("-signer", "tsa.pem"), ("-inkey", "key.pem"), ("-out", "token")]
        {
            command.arg(argument).arg(at(name));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(at("token")).unwrap()
    }

    /// Whether openssl's own check accepts a response to a query.
    pub fn openssl_accepts(&self, query: &[u8], reply: &[u8]) -> bool {
        let _turn = self.one_at_a_time.lock().unwrap();
        let at = |name: &str| self.folder.path().join(name);
        fs::write(at("query"), query).unwrap();
        fs::write(at("reply"), reply).unwrap();
        fs::write(at("root.pem"), &self.root).unwrap();
        let mut command = Command::new("openssl");
        command.args(["ts", "-verify", "-queryfile"]).arg(at("query")).arg("-in").arg(at("reply"));
        command.arg("-CAfile").arg(at("root.pem")).output().unwrap().status.success()
    }
}

/// A certificate that openssl signs in the place of its own key: rcgen has one digest a curve.
fn certified(digest: &str, folder: &Path, own: &str, above: &(String, String)) -> String {
    let at = |name: &str| folder.join(name);
    for (name, content) in [("in.pem", own), ("above.pem", &above.0), ("above.key", &above.1)] {
        fs::write(at(name), content).unwrap();
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-preserve_dates", "-set_serial", "77", &format!("-{digest}")]);
    for (argument, name) in
        [("-in", "in.pem"), ("-CA", "above.pem"), ("-CAkey", "above.key"), ("-out", "out.pem")]
    {
        openssl.arg(argument).arg(at(name));
    }
    let output = openssl.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(at("out.pem")).unwrap()
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn key(kind: &str, folder: &Path) -> KeyPair {
    match kind {
        "P-256" => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        "P-384" => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
        _ => {
            let path: PathBuf = folder.join("rsa.pem");
            let output =
                Command::new("openssl").args(["genrsa", "-out"]).arg(&path).arg("2048").output().unwrap();
            assert!(output.status.success());
            KeyPair::from_pem(&fs::read_to_string(path).unwrap()).unwrap()
        }
    }
}

/// An extended key usage, as DER: rcgen's own is never critical.
fn usage(usage: Usage) -> Option<CustomExtension> {
    const STAMPS: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8];
    const SERVERS: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
    let purposes: &[&[u8]] = match usage {
        Usage::Nothing => return None,
        Usage::TimeStamping | Usage::TimeStampingNotCritical => &[STAMPS],
        Usage::TimeStampingAndServers => &[STAMPS, SERVERS],
        Usage::Servers => &[SERVERS],
    };
    let content = purposes.concat();
    let der = [&[0x30, content.len() as u8], content.as_slice()].concat();
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 37], der);
    extension.set_criticality(usage != Usage::TimeStampingNotCritical);
    Some(extension)
}

type Answer = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;

/// An HTTP server that answers each query with what `answer` makes of it, head and all. Ends with the test program.
pub struct Server {
    pub url: String,
    answer: Arc<Mutex<Answer>>,
    queries: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Server {
    pub fn new(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let server = Self {
            url: format!("http://u53r:pa55@{}/s3cret", listener.local_addr().unwrap()),
            answer: Arc::clone(&answer),
            queries: Arc::default(),
        };
        let queries = Arc::clone(&server.queries);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let Some(query) = query(&stream) else { continue };
                queries.lock().unwrap().push(query.clone());
                let bytes = (answer.lock().unwrap())(&query);
                let _ = stream.write_all(&bytes);
            }
        });
        server
    }

    /// Of an authority that behaves.
    pub fn of(authority: Authority) -> Self {
        Self::new(move |query| ok(&authority.reply(query)))
    }

    pub fn behave(&self, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    pub fn queries(&self) -> Vec<Vec<u8>> {
        self.queries.lock().unwrap().clone()
    }
}

pub fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn query(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut is_query) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        is_query |= line == "content-type: application/timestamp-query";
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    is_query.then_some(body)
}
