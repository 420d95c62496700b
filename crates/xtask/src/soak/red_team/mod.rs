//! Random attacks by a superuser, each judged by what the trust table promises (docs/threat-model.md).
//!
//! Each attack has a database of its own with two tenants, all of whose events are sealed; the auditor took the signed checkpoint of
//! each away. Then it plays the blocks of its seed ([`block`]), some of which are refused, and the jobs run once. What has to
//! be named by whom follows from what became of the target's sealed events, which are compared with a copy:
//!
//! | sealed events | who |
//! |---|---|
//! | differ | the auditor with the export and the checkpoint: always; "could not check" where the log's order is gone |
//! | differ, and not every memory of the database was made to agree | the verification in the database |
//! | differ, or a privileged statement went through | an alert |
//! | are the same | nobody calls them tampered |
//! | are the same, and nothing privileged went through | no alert at all |

mod block;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postgres::{Client, SimpleQueryMessage};
use zeroauth_audit_tests::Cluster;

use crate::process;
use crate::setup::build;
use crate::setup::say;
use crate::signing_key;
use crate::test::tally::Tally;
use block::{Beside, Block, Edit, Forget, SEALED, TARGET, attack, statements, supplied};

/// Who named an attack, and how often.
type NamedBy = BTreeMap<&'static str, u64>;

/// Plays attacks from the seed `first` on for `time`, at least one; one passed or failed each.
pub(crate) fn check(time: Duration, first: u64) -> Result<Tally> {
    say(&format!("red team: random attacks from seed {first} on for {} s", time.as_secs()));
    let program = build::extension_and_verifier(&zeroauth_audit_tests::Installation::find()?)?.verifier;
    let cluster = // Without the worker a seed is the same attack each time: the jobs run when the attack or its judge says so.
        Cluster::builder("red-team").conf("fsync", "off").conf("autovacuum", "off").conf("zeroauth_audit.worker", "off").start()?;
    let (mut sum, mut named) = (Tally::default(), NamedBy::new());
    let begun = Instant::now();
    let mut seed = first;
    while seed == first || begun.elapsed() < time {
        let played =
            play(&cluster, &program, seed).with_context(|| format!("seed {seed}: {:?}", attack(seed)))?;
        for who in played.named {
            *named.entry(who).or_default() += 1;
        }
        for wrong in &played.wrong {
            eprintln!("red team, seed {seed}: {wrong}\n  {:?}", attack(seed));
        }
        sum += Tally::one(played.wrong.is_empty());
        seed += 1;
    }
    let named: Vec<String> = named.iter().map(|(who, times)| format!("{who} {times}")).collect();
    say(&format!("red team: {} attacks, named by: {}", seed - first, named.join(", ")));
    Ok(sum)
}

/// What came of one attack.
struct Played {
    named: Vec<&'static str>,
    wrong: Vec<String>,
}

/// One attack's database and what the auditor took away.
struct Scene {
    client: Client,
    database: String,
    folder: PathBuf,
    key: String,
}

fn play(cluster: &Cluster, program: &Path, seed: u64) -> Result<Played> {
    let mut scene = Scene::make(cluster, program, seed)?;
    let before = scene.sealed()?;
    let alerts_before = scene.alerts()?;
    let blocks = attack(seed);
    let mut went_through = Vec::new();
    let mut connection = scene.connection(cluster)?;
    for block in &blocks {
        let mut effect = false;
        for statement in statements(*block) {
            match run(&mut connection, &statement) {
                Ok(changed) => effect |= changed && is_privileged(*block, &statement),
                Err(error) if error.is_closed() => {
                    return Ok(Played {
                        named: Vec::new(),
                        wrong: vec![format!("the connection was lost at: {statement}")],
                    });
                }
                // An open transaction must not hide the rest.
                Err(_) => connection.batch_execute("ROLLBACK").unwrap_or_default(),
            }
        }
        if effect {
            went_through.push(*block);
        }
    }
    drop(connection);
    let played = scene.judge(program, &blocks, &went_through, &before, &alerts_before);
    scene.remove(cluster)?;
    played
}

/// Whether a statement is one that somebody has to be told of when it had an effect.
fn is_privileged(block: Block, statement: &str) -> bool {
    /// What changes nothing by itself: our triggers fire in replica role all the same.
    const HARMLESS: [&str; 6] = [
        "RESET ",
        // The hashes made right again: seen by what became of the events.
        "DO $$",
        "SET session_replication_role",
        "SET allow_system_table_mods",
        "CREATE OR REPLACE FUNCTION public.",
        "SELECT pg_stat_force",
    ];
    // What stands beside a supplied event has no effect, or one that the events show.
    if let Block::Supplied(_) = block {
        return statement == supplied();
    }
    !matches!(block, Block::Grow | Block::Job(_) | Block::Uncounted | Block::CopyRolledBack | Block::Copy)
        && !HARMLESS.iter().any(|prefix| statement.starts_with(prefix))
}

/// Runs one statement: whether it changed anything, as far as PostgreSQL says.
fn run(connection: &mut Client, statement: &str) -> Result<bool, postgres::Error> {
    let rows = connection.simple_query(statement)?.into_iter().fold(0, |rows, message| match message {
        SimpleQueryMessage::CommandComplete(done) => rows + done,
        _ => rows,
    });
    let counts = ["UPDATE", "DELETE", "INSERT", "SELECT"].iter().any(|verb| statement.starts_with(verb));
    Ok(rows > 0 || !counts)
}

impl Scene {
    fn make(cluster: &Cluster, program: &Path, seed: u64) -> Result<Self> {
        let mut admin = cluster.try_client()?;
        let database = format!("attack_{seed}");
        let folder = cluster.data_dir().with_file_name(&database);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (origin, key_file) = (format!("red-team.example/{seed}"), folder.join("key"));
        let key = signing_key::make(program, &origin, &key_file)?;
        admin.batch_execute(&format!("CREATE DATABASE {database}"))?;
        admin.batch_execute(&format!(
            "ALTER DATABASE {database} SET zeroauth_audit.checkpoint_key_file = '{}'",
            key_file.display()
        ))?;
        let client = cluster.connect("postgres", &database)?;
        let mut scene = Self { client, database, folder, key };
        scene.client.batch_execute("CREATE EXTENSION zeroauth_audit")?;
        scene.client.batch_execute(&format!(
            "INSERT INTO audit_events (tenant_id, action, actor_id, details)
             SELECT t, 'a' || i, 'u' || i, jsonb_build_object('i', i) FROM generate_series(1, {SEALED}) i, (VALUES ('{TARGET}'), ('other')) AS t (t) ORDER BY i"
        ))?;
        // What was not counted when the tripwires look is nothing that a reset of the counters could take away.
        scene.client.batch_execute("SELECT pg_stat_force_next_flush()")?;
        for job in ["checkpoint", "tripwire", "drift", "tripwire"] {
            scene.job(job)?;
        }
        // What was taken away before anything happens.
        for row in scene
            .client
            .query("SELECT run, zeroauth_audit_internal.registry_run_file(run), to_char(sealed_at AT TIME ZONE 'UTC', 'YYYY/MM/DD') FROM audit_checkpoints", &[])?
        {
            let (number, text, day): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
            let day = scene.folder.join("runs").join(day);
            fs::create_dir_all(&day)?;
            fs::write(day.join(format!("{number:012}.run")), text)?;
        }
        let names: String = scene.client.query_one("SELECT audit_export_names()", &[])?.get(0);
        fs::write(scene.folder.join("names"), names)?;
        Ok(scene)
    }

    fn connection(&self, cluster: &Cluster) -> Result<Client> {
        cluster.connect("postgres", &self.database)
    }

    /// Every column of the target's first events, in the order of their places.
    fn sealed(&mut self) -> Result<Vec<String>> {
        let rows = self.client.query(
            &format!("SELECT e::text FROM audit_events e WHERE tenant_id = '{TARGET}' AND chain = 0 AND seq <= {SEALED} ORDER BY seq"),
            &[],
        )?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Runs a job by hand. What it finds is seen by what it leaves.
    fn job(&mut self, job: &str) -> Result<()> {
        self.client
            .batch_execute(&format!("SELECT audit_job_run('{job}')"))
            .with_context(|| format!("job {job}"))
    }

    /// Alerts by kind, with how often each was seen; those about the set-up itself are left out.
    fn alerts(&mut self) -> Result<BTreeMap<String, i64>> {
        let rows = self.client.query(
            "SELECT kind || ' ' || fingerprint, sum(occurrences)::bigint FROM zeroauth_audit_internal.alerts WHERE kind NOT IN ('job_overdue') GROUP BY 1",
            &[],
        )?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    fn judge(
        &mut self,
        program: &Path,
        blocks: &[Block],
        went_through: &[Block],
        before: &[String],
        alerts_before: &BTreeMap<String, i64>,
    ) -> Result<Played> {
        let changed = self.sealed()? != before;
        let mut wrong = Vec::new();
        for job in ["tripwire", "checkpoint", "drift", "tripwire"] {
            if let Err(error) = self.job(job) {
                wrong.push(format!("{error:#}"));
            }
        }
        let alerts = self.alerts()?;
        let raised: Vec<&String> = alerts
            .iter()
            .filter(|(kind, times)| alerts_before.get(*kind).is_none_or(|known| *times > known))
            .map(|(kind, _)| kind)
            .collect();
        let verified: bool = self
            .client
            .query_one("SELECT coalesce(bool_and(ok), false) FROM audit_verify($1)", &[&TARGET])
            .is_ok_and(|row| row.get(0));
        let integrity: String = self
            .client
            .query_one("SELECT state FROM audit_integrity($1)", &[&TARGET])
            .map_or_else(|error| format!("{:?}", error.code()), |row| row.get(0));
        let database = !verified || integrity != "ok";
        let auditor = self.auditor(program, TARGET)?;
        let bystander = self.auditor(program, "other")?;

        // Memories that were made to agree: the log and everything on top of it.
        let forgot =
            |memory| blocks.iter().any(|block| matches!(block, Block::Forget(_, of) if *of == memory));
        let recomputed = blocks.iter().any(|block| matches!(block, Block::Tamper(_, _, true)));
        let agreeing = (forgot(Forget::Log) || forgot(Forget::EndedLog))
            && (recomputed || blocks.iter().any(is_deletion));
        let truncated = blocks.iter().any(|block| matches!(block, Block::Tamper(_, Edit::Truncate, _)));

        // Without its intervals nobody can say in which order events were sealed: then it could not be checked, which is no verdict.
        let could_not = auditor == 2 && (forgot(Forget::Log) || forgot(Forget::EndedLog));
        if changed && auditor != 1 && !could_not {
            wrong.push(format!("sealed events differ, and the auditor's exit code is {auditor}"));
        }
        if !changed && auditor != 0 && !could_not {
            wrong.push(format!("sealed events are the same, and the auditor's exit code is {auditor}"));
        }
        if bystander != 0 && !(truncated && changed) {
            wrong.push(format!("the other tenant is untouched, and the auditor's exit code is {bystander}"));
        }
        if changed && !agreeing && !database {
            wrong.push("sealed events differ, and the database calls them ok".to_owned());
        }
        if !changed && (!verified || integrity == "tampered") && !disturbs_memory(went_through) {
            wrong.push(format!(
                "sealed events are the same, and the database says: verified {verified}, {integrity}"
            ));
        }
        if (changed || !went_through.is_empty()) && raised.is_empty() {
            wrong.push(format!("nobody was alerted of {went_through:?}"));
        }
        let supplied = went_through.iter().any(|block| matches!(block, Block::Supplied(_)));
        if supplied
            && !forgot(Forget::Alerts)
            && !raised.iter().any(|raised| raised.starts_with("events_supplied "))
        {
            wrong.push(format!("an event was supplied, and the alerts are {raised:?}"));
        }
        if !changed && went_through.is_empty() && !raised.is_empty() && !attempts(blocks) {
            wrong.push(format!("nothing privileged went through, and there are alerts: {raised:?}"));
        }
        let mut named = Vec::new();
        for (who, did) in [
            ("auditor", auditor == 1),
            ("database", database),
            ("alert", !raised.is_empty()),
            ("refused", went_through.is_empty() && !changed),
        ] {
            if did {
                named.push(who);
            }
        }
        Ok(Played { named, wrong })
    }

    /// The exit code of the auditor's program for the tenant's export against the run files that were taken away.
    fn auditor(&mut self, program: &Path, tenant: &str) -> Result<i32> {
        let path = |name: &str| self.folder.join(format!("{tenant}.{name}"));
        for (name, function) in [("jsonl", "audit_export"), ("intervals", "audit_export_intervals")] {
            // A tenant that has no events left is an error here, and nothing to hand to an auditor.
            let rows = self.client.query(&format!("SELECT {function}($1)"), &[&tenant]).unwrap_or_default();
            let lines: String = rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
            fs::write(path(name), lines)?;
        }
        // Whoever is given an empty export asks for the tenants that the run files have.
        let empty = fs::metadata(path("jsonl"))?.len() == 0;
        let output = process::output(
            Command::new(program)
                .arg("verify-export")
                .arg(path("jsonl"))
                .arg("--intervals")
                .arg(path("intervals"))
                .arg("--runs")
                .arg(self.folder.join("runs"))
                .arg("--names")
                .arg(self.folder.join("names"))
                .args(empty.then_some("--all-tenants"))
                .args(["--key", &self.key]),
        )?;
        output.status.code().context("zeroauth-audit was killed")
    }

    fn remove(self, cluster: &Cluster) -> Result<()> {
        drop(self.client);
        let mut admin = cluster.try_client()?;
        admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.database))?;
        ensure!(self.folder.starts_with(cluster.data_dir().parent().unwrap_or(Path::new("/"))), "not ours");
        fs::remove_dir_all(&self.folder).with_context(|| format!("cannot remove {}", self.folder.display()))
    }
}

fn is_deletion(block: &Block) -> bool {
    matches!(
        block,
        Block::Tamper(_, Edit::DeleteTail(_) | Edit::DeleteTenant | Edit::Truncate, _)
            | Block::Supplied(Beside::Deleted)
    )
}

/// Whether a memory that the database compares with was changed: then it says so, although the events are the same.
fn disturbs_memory(went_through: &[Block]) -> bool {
    went_through
        .iter()
        .any(|block| matches!(block, Block::Forget(..) | Block::Supplied(_) | Block::Tamper(..)))
}

/// Whether something was tried that is told although it was refused.
fn attempts(blocks: &[Block]) -> bool {
    blocks.iter().any(|block| !matches!(block, Block::Grow | Block::Job(_) | Block::Uncounted))
}
