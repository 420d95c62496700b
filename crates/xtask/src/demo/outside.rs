//! What somebody outside can check: a key that signs checkpoints, a local chain that anchors them, and the program that an auditor
//! has, with the database stopped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postgres::Client;
use serde_json::Value;
use zeroauth_audit_tests::OsUser;

use super::home;
use super::tamper::Tampered;
use crate::process;
use crate::setup;
use crate::signing_key;

/// The name of the demo's log.
const ORIGIN: &str = "demo.example/audit";
/// The chain's first two accounts, with the keys that everybody knows.
const OWNER: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
const OWNER_KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const ANCHORER: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const ANCHORER_KEY: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const CHAIN_ID: &str = "31337";
/// The worker is asked this often to go on, and each time goes as far as the chain is.
const ASKED_EVERY: Duration = Duration::from_millis(500);
/// A block comes every second, and the anchor is final some blocks later.
const PATIENCE: Duration = Duration::from_secs(300);

/// The chain, and what the auditor knows of the log.
pub(crate) struct Outside {
    chain: Chain,
    folder: PathBuf,
    program: PathBuf,
    public_key: String,
    contract: String,
}

/// An anchor that is final.
pub(crate) struct Anchored {
    pub(crate) transaction: String,
    pub(crate) block: i64,
    pub(crate) entries: i64,
}

struct Chain {
    process: Child,
    url: String,
}

impl Drop for Chain {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Chain {
    /// A block every second, and one of a few blocks ago is final.
    fn start(folder: &Path) -> Result<Self> {
        let program = setup::chain()?;
        let log = folder.join("chain.log");
        let process = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", "0", "--block-time", "1", "--slots-in-an-epoch", "1"])
            .args(["--prune-history", "1000", "--no-cors", "--color", "never"])
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(File::create(&log).with_context(|| format!("cannot write {}", log.display()))?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the local chain")?;
        let mut chain = Self { process, url: String::new() };
        let since = Instant::now();
        while chain.url.is_empty() {
            ensure!(
                since.elapsed() < PATIENCE,
                "the local chain does not listen: look into {}",
                log.display()
            );
            thread::sleep(Duration::from_millis(20));
            let text = fs::read_to_string(&log)?;
            if let Some(address) = text.lines().find_map(|line| line.strip_prefix("Listening on ")) {
                chain.url = format!("http://{}", address.trim());
            }
        }
        Ok(chain)
    }
}

impl Outside {
    /// Makes the key that signs, and puts the contract on a chain. `folder` is readable by the server; `program` is the auditor's.
    pub(crate) fn open(admin: &mut Client, folder: &Path, program: PathBuf) -> Result<Self> {
        let key = folder.join("checkpoint.key");
        let public_key = signing_key::make(&program, ORIGIN, &key)?;
        admin
            .batch_execute(&format!(
                "ALTER SYSTEM SET zeroauth_audit.checkpoint_key_file = '{}'",
                key.display().to_string().replace('\'', "''")
            ))
            .context("cannot set the key")?;
        admin.batch_execute("SELECT pg_reload_conf()")?;
        let chain = Chain::start(folder)?;
        let mut outside =
            Self { chain, folder: folder.to_owned(), program, public_key, contract: String::new() };
        outside.deploy(admin)?;
        Ok(outside)
    }

    /// The contract, and the row that has the server anchor in it.
    fn deploy(&mut self, admin: &mut Client) -> Result<()> {
        let (rpc, owner) =
            (self.secret("deployer.url", &self.chain.url)?, self.secret("owner.key", OWNER_KEY)?);
        let text = process::read(
            Command::new(&self.program)
                .args(["deploy-contract", "--json", "--chain-id", CHAIN_ID, "--origin", ORIGIN])
                .args(["--owner", OWNER, "--anchorer", ANCHORER])
                .arg("--rpc-file")
                .arg(&rpc)
                .arg("--key-file")
                .arg(&owner)
                .arg("--keep")
                .arg(self.folder.join("deployment")),
        )?;
        let deployed: Value = serde_json::from_str(&text).context("deploy-contract printed no JSON")?;
        self.contract =
            deployed["contract"].as_str().context("deploy-contract named no contract")?.to_owned();
        let mut config = deployed["config"].clone();
        let user = OsUser::current()?;
        let anchorer = self.secret("anchorer.key", ANCHORER_KEY)?;
        for file in [&rpc, &anchorer] {
            user.own(file)?;
        }
        config["signer"] = serde_json::json!({ "kind": "raw", "key_file": anchorer });
        admin
            .execute(
                "SELECT audit_anchor_target_set('chain', 'evm', $1::text::jsonb)",
                &[&config.to_string()],
            )
            .context("cannot have the server anchor on the chain")?;
        Ok(())
    }

    fn secret(&self, name: &str, content: &str) -> Result<PathBuf> {
        home::secret(&self.folder, name, content)
    }

    /// Has the worker seal and anchor now instead of at half past midnight, and waits until it has sealed: what is changed
    /// afterwards is changed after a checkpoint of every log was signed.
    pub(crate) fn seal(admin: &mut Client) -> Result<()> {
        admin.batch_execute(
            "UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'anchor'",
        )?;
        let since = Instant::now();
        loop {
            let batches: i64 =
                admin.query_one("SELECT count(*) FROM zeroauth_audit_internal.anchor_batches", &[])?.get(0);
            if batches > 0 {
                return Ok(());
            }
            ensure!(
                since.elapsed() < PATIENCE,
                "no checkpoint is on its way to the chain after {PATIENCE:?}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the anchor on the chain is final, and everything that a proof takes along was fetched. The worker looks after
    /// its transaction in half a minute, and a minute later again; it is asked to do so at once.
    pub(crate) fn wait(admin: &mut Client) -> Result<Anchored> {
        let since = Instant::now();
        loop {
            let row = admin.query_opt(
                "SELECT b.tx_hash::text, b.block_number, b.size, b.state, b.last_error, \
                 (SELECT bool_and(e.evidence IS NOT NULL) FROM zeroauth_audit_internal.anchor_batches e) FROM zeroauth_audit_internal.anchor_batches b \
                 WHERE b.target = 'chain' ORDER BY b.epoch LIMIT 1",
                &[],
            )?;
            if let Some(row) = &row
                && row.get::<_, &str>(3) == "finalized"
                && row.get::<_, bool>(5)
            {
                return Ok(Anchored { transaction: row.get(0), block: row.get(1), entries: row.get(2) });
            }
            let state = row.map_or("not planned".to_owned(), |row| {
                format!(
                    "{}, {}",
                    row.get::<_, String>(3),
                    row.get::<_, Option<String>>(4).unwrap_or_default()
                )
            });
            ensure!(since.elapsed() < PATIENCE, "the anchor is not final after {PATIENCE:?}: {state}");
            admin
                .execute("SELECT audit_anchor_retry('chain')", &[])
                .context("cannot have the worker go on")?;
            thread::sleep(ASKED_EVERY);
        }
    }

    /// The proof of the tenant's first event that was not touched, in the file `name`.
    pub(crate) fn prove_untouched(&self, admin: &mut Client, tampered: &Tampered, name: &str) -> Result<()> {
        let row = admin
            .query_one(
                "SELECT event_id::text FROM audit_events WHERE tenant_id = $1 AND event_id <> $2::text::uuid \
                 ORDER BY chain, seq LIMIT 1",
                &[&tampered.tenant, &tampered.event_id],
            )
            .context("there is no other event to prove")?;
        self.prove(admin, &tampered.tenant, row.get(0), name)
    }

    /// The proof of one event as it is stored, in the file `name`.
    pub(crate) fn prove(&self, admin: &mut Client, tenant: &str, event_id: &str, name: &str) -> Result<()> {
        let row = admin
            .query_one("SELECT audit_prove($1, $2::text::uuid)", &[&tenant, &event_id])
            .context("cannot prove an event")?;
        let path = self.folder.join(name);
        fs::write(&path, row.get::<_, &str>(0)).with_context(|| format!("cannot write {}", path.display()))
    }

    /// What the auditor's program says of a bundle; an error when it is not what is expected.
    pub(crate) fn verify(&self, bundle: &str, expected: i32) -> Result<String> {
        let output = process::output(
            Command::new(&self.program)
                .current_dir(&self.folder)
                .args(["verify-bundle", bundle])
                .args(["--key", &self.public_key, "--contract", &self.contract, "--chain-id", CHAIN_ID])
                .args(["--rpc", &self.chain.url, "--require-anchors", "1"]),
        )?;
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        ensure!(
            output.status.code() == Some(expected),
            "zeroauth-audit verify-bundle ended with {} instead of {expected}: {said}",
            output.status
        );
        Ok(said)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
