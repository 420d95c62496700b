//! Servers that anchor: with a key, a worker, a local chain and an authority; and moving what they know back in time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postgres::Client;
use serde_json::{Value, json};
use zeroauth_audit_anchor::Batch;
use zeroauth_audit_anchor::evm::deploy::{Deployer, Deployment};
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_tests::{Cluster, OsUser, wait_until};

use super::sealed::{ORIGIN, key_file, key_path};
use super::worker::{watcher, worker_after};
use super::{DEADLINE, Sql};

#[allow(dead_code, reason = "shared with the tests of the drivers")]
#[path = "../../../../crates/anchor/tests/chain/anvil.rs"]
pub mod anvil;
#[allow(dead_code, reason = "shared with the tests of the drivers")]
#[path = "../../../../crates/anchor/tests/chain/proxy.rs"]
pub mod proxy;
#[allow(dead_code, reason = "shared with the tests of the drivers")]
#[path = "../../../../crates/anchor/tests/authority/tsa.rs"]
pub mod tsa;

use anvil::Anvil;
use proxy::Proxy;

/// The key of anvil's second account, as everybody knows it.
const ANCHORER_KEY: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
/// And of its first.
const OWNER_KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// Moves everything that the worker knows of its batches back in time, so that for it time has gone on.
const TIME: &str = "
CREATE FUNCTION earlier(j jsonb, by bigint) RETURNS jsonb LANGUAGE sql AS $f$
    SELECT CASE jsonb_typeof(j)
        WHEN 'object' THEN (SELECT coalesce(jsonb_object_agg(e.key, CASE
            WHEN e.key IN ('next', 'retry_at', 'planned_at', 'since', 'sent_at', 'included_since') THEN to_jsonb((e.value #>> '{}')::bigint - by)
            ELSE earlier(e.value, by) END), '{}') FROM jsonb_each(j) e)
        WHEN 'array' THEN (SELECT coalesce(jsonb_agg(earlier(e.value, by)), '[]') FROM jsonb_array_elements(j) e)
        ELSE j END
$f$;
CREATE FUNCTION pass(by interval) RETURNS void LANGUAGE plpgsql AS $f$ BEGIN
    PERFORM set_config('zeroauth_audit.maintenance', 'on', true);
    UPDATE zeroauth_audit_internal.anchor_batches SET machine = earlier(machine, extract(epoch FROM by)::bigint), next_at = next_at - by, first_failed_at = first_failed_at - by WHERE next_at IS NOT NULL;
    UPDATE zeroauth_audit_internal.anchor_targets SET enabled = enabled;
    PERFORM set_config('zeroauth_audit.maintenance', 'off', true);
END $f$";

/// A server that anchors, and its superuser's connection.
pub struct Anchoring {
    pub cluster: Cluster,
    pub client: Client,
    pub key: SigningKey,
}

impl Anchoring {
    /// With a worker, a key and a few events of two tenants; nothing is scheduled to run by itself soon.
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    pub fn start_with(name: &str, conf: &[(&str, &str)]) -> Self {
        let mut builder = Cluster::builder(name);
        for (key, value) in conf {
            builder = builder.conf(key, value);
        }
        let cluster = builder.conf("fsync", "off").start().unwrap();
        let key = key_file(&key_path(&cluster), ORIGIN, 7);
        let mut client = cluster.client();
        let path = key_path(&cluster);
        client.run(&format!("ALTER SYSTEM SET zeroauth_audit.checkpoint_key_file = '{}'", path.display()));
        client.run("SELECT pg_reload_conf()");
        client.run("CREATE EXTENSION zeroauth_audit");
        client.run(TIME);
        worker_after(&mut watcher(&cluster), "audit", None);
        // A worker begins with the tripwires, which would tell that they are rare now.
        wait_until(DEADLINE, "the first look of the tripwires", || {
            client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'tripwire' AND status = 'succeeded'") != "0"
        });
        client.run("UPDATE zeroauth_audit_internal.jobs SET schedule = '0 0 29 2 *'");
        client.run("INSERT INTO audit_events (tenant_id, action) SELECT t, 'first' FROM generate_series(1, 5), (VALUES ('acme'), ('globex')) v (t)");
        Self { cluster, client, key }
    }

    /// A file that only the server can read; its path.
    pub fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.cluster.data_dir().with_file_name(name);
        write(&path, content);
        OsUser::current().unwrap().own(&path).unwrap();
        path
    }

    /// Has the worker run a job now, and waits until it has; the outcome.
    #[track_caller]
    pub fn run(&mut self, job: &str) -> String {
        run_job(&mut self.client, job)
    }

    /// The state of the newest batch of a target.
    pub fn state(&mut self, target: &str) -> String {
        self.client.line(&format!(
            "SELECT coalesce((SELECT state FROM zeroauth_audit_internal.anchor_batches WHERE target = '{target}' ORDER BY epoch DESC LIMIT 1), 'none')"
        ))
    }

    /// Waits until the newest batch of a target is in a state.
    #[track_caller]
    pub fn wait(&mut self, target: &str, state: &str) {
        wait_until(DEADLINE, &format!("the batch of {target} to be {state}"), || self.state(target) == state);
    }

    /// The same, with time that goes by, and what happens `meanwhile`.
    #[track_caller]
    pub fn pass_until(&mut self, target: &str, state: &str, mut meanwhile: impl FnMut()) {
        wait_until(DEADLINE * 2, &format!("the batch of {target} to be {state}"), || {
            if self.state(target) == state {
                return true;
            }
            meanwhile();
            self.pass("2 minutes");
            std::thread::sleep(std::time::Duration::from_millis(100));
            false
        });
    }

    /// Lets so much time go by for what is on its way.
    pub fn pass(&mut self, interval: &str) {
        self.client.run(&format!("SELECT pass('{interval}')"));
    }

    /// One line about every batch of a target: how many of its tenants it covers is said of those that the registry has entries of.
    pub fn batches(&mut self, target: &str) -> Vec<String> {
        self.client.lines(&format!(
            "SELECT epoch, state, (SELECT count(DISTINCT e.tenant_id) FROM zeroauth_audit_internal.registry_entries e WHERE e.entry < size), next_at IS NULL FROM zeroauth_audit_internal.anchor_batches WHERE target = '{target}' ORDER BY epoch"
        ))
    }

    /// Alerts that are not resolved.
    /// But for those about [`TIME`], which only maintenance can move, and about how rare the jobs are here.
    pub fn alerts(&mut self) -> Vec<String> {
        self.client.lines(
            "SELECT severity, fingerprint FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved' AND condition_gone_at IS NULL AND kind NOT IN ('maintenance_used', 'state_written', 'settings_written', 'job_off') ORDER BY fingerprint",
        )
    }

    /// What people are told of anything on its way, all of it: no secret may be in there.
    pub fn everything_stored(&mut self) -> String {
        let mut all = self.cluster.log();
        for table in [
            "zeroauth_audit_internal.anchor_batches",
            "zeroauth_audit_internal.anchor_targets",
            "zeroauth_audit_internal.alerts",
            "audit_events",
            "zeroauth_audit_internal.job_runs",
        ] {
            all += &self.client.lines(&format!("SELECT t FROM {table} t")).join("\n");
        }
        all
    }
}

/// Has the worker run a job now, and waits until it has; the outcome.
#[track_caller]
pub fn run_job(client: &mut Client, job: &str) -> String {
    let last = client.line(&format!(
        "SELECT coalesce(max(id), 0) FROM zeroauth_audit_internal.job_runs WHERE job = '{job}'"
    ));
    client.run(&format!(
        "UPDATE zeroauth_audit_internal.jobs SET next_run = '2020-01-01 00:00:00+00' WHERE name = '{job}'"
    ));
    let sql = format!(
        "SELECT status, coalesce(error_code, '-'), coalesce(error, '-') FROM zeroauth_audit_internal.job_runs WHERE job = '{job}' AND id > {last} AND status <> 'running'"
    );
    wait_until(DEADLINE * 2, &format!("a run of {job}"), || !client.lines(&sql).is_empty());
    client.line(&sql)
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A local chain with the contract on it, and two endpoints.
pub struct Chain {
    pub anvil: Anvil,
    pub first: Proxy,
    pub second: Proxy,
    pub contract: String,
}

impl Chain {
    /// The anchorer may anchor for the base origin of the tests' key.
    pub fn start() -> Self {
        let anvil = Anvil::start();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            write(&path, content);
            path
        };
        let deployment: Deployment = serde_json::from_value(json!({
            "chain_id": 31337,
            "rpc_url_files": [file("url", &anvil.url())],
            "signer": { "kind": "raw", "key_file": file("key", OWNER_KEY) },
            "owner": anvil.account(0),
            "log_id": Batch::log_id(ORIGIN),
            "anchorer": anvil.account(1),
            "max_fee_per_gas": 200_000_000_000u64,
        }))
        .unwrap();
        let deployer = Deployer::open(deployment).unwrap();
        let prepared = deployer.prepare().unwrap();
        deployer.send(&prepared).unwrap();
        wait_until(DEADLINE, "the contract", || deployer.is_there(&prepared).unwrap());
        // The contract itself is final.
        anvil.mine(4);
        let (first, second) = (Proxy::of(&anvil), Proxy::of(&anvil));
        Self { anvil, first, second, contract: prepared.contract.to_string() }
    }

    /// The configuration of a target.
    pub fn config(&self, server: &Anchoring) -> Value {
        json!({
            "chain_id": 31337,
            "contract": self.contract,
            "rpc_url_files": [server.secret("rpc1", &self.first.url()), server.secret("rpc2", &self.second.url())],
            "signer": { "kind": "raw", "key_file": server.secret("anchor.key", ANCHORER_KEY) },
            "timeout_seconds": 20,
        })
    }

    /// Makes it the only target of a server, by the name `chain`.
    pub fn target(&self, server: &mut Anchoring) {
        let config = self.config(server);
        server.client.run("SELECT audit_anchor_target_set('file', enabled => false)");
        server.client.run(&format!("SELECT audit_anchor_target_set('chain', 'evm', '{config}')"));
    }

    /// Both endpoints behave like this.
    pub fn behave(&self, behaviour: &proxy::Behaviour) {
        self.first.behave(behaviour.clone());
        self.second.behave(behaviour.clone());
    }

    /// Events of the contract: (epoch, transaction, root).
    pub fn events(&self) -> Vec<(u64, String, String)> {
        use zeroauth_audit_anchor::evm::contract::{ANCHORED, topic};
        let filter = json!([{ "address": self.contract, "fromBlock": "0x0", "topics": [topic(ANCHORED)] }]);
        let logs = self.anvil.call("eth_getLogs", filter);
        let event = |log: &Value| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (
                anvil::number(&log["topics"][2]),
                text(&log["transactionHash"]),
                text(&log["data"])[..66].to_owned(),
            )
        };
        logs.as_array().unwrap().iter().map(event).collect()
    }

    /// Mines and lets time go by until the newest batch is in this state.
    #[track_caller]
    pub fn settle(&self, server: &mut Anchoring, state: &str) {
        server.pass_until("chain", state, || self.anvil.mine(1));
    }
}
