//! One connection of the storm: transactions of every kind, and what each of them leaves behind for certain.

use std::io::Write;

use fastrand::Rng;
use postgres::{Client, Error};

pub struct Writer {
    rng: Rng,
    number: u32,
    events: u32,
    /// Ids of this connection's acknowledged events of tenant `hot`, for retries.
    acknowledged: Vec<String>,
}

/// Takes one expected error for success.
fn expect(result: Result<(), Error>, code: &str) -> Result<(), Error> {
    match result {
        Err(error) if error.as_db_error().is_some_and(|e| e.code().code() == code) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => panic!("went through, {code} was expected"),
    }
}

impl Writer {
    pub fn new(number: u32) -> Self {
        Self { rng: Rng::with_seed(u64::from(number)), number, events: 0, acknowledged: Vec::new() }
    }

    fn id(&mut self) -> String {
        self.events += 1;
        format!("{:08x}-0000-7000-8000-{:012x}", self.number, self.events)
    }

    fn tenant(&mut self) -> String {
        if self.rng.u8(0..10) < 6 { "hot".into() } else { format!("tenant {}", self.rng.u8(0..20)) }
    }

    /// An INSERT of `count` events, with their ids.
    fn insert(&mut self, count: usize) -> (String, Vec<String>) {
        let ids: Vec<String> = (0..count).map(|_| self.id()).collect();
        let rows: Vec<String> = ids
            .iter()
            .map(|id| format!("('{}', '{id}', 'storm', '{{\"n\": {}}}')", self.tenant(), self.events))
            .collect();
        (
            format!(
                "INSERT INTO audit_events (tenant_id, event_id, action, details) VALUES {}",
                rows.join(", ")
            ),
            ids,
        )
    }

    /// One transaction of some kind; what it leaves behind is in `stored` and `absent` if it returns Ok.
    pub fn step(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        match self.rng.u8(0..14) {
            0..=3 => self.plain(client, stored),
            4 => self.conflict(client, stored, absent),
            5 => self.savepoints(client, stored, absent),
            6 => self.exception_block(client, stored, absent),
            7 => self.copy(client, stored),
            8 => self.insert_select(client),
            9 => self.prepared(client, stored, absent),
            10 => self.snapshot(client, stored, absent),
            11 => self.refused(client, absent),
            12 => self.dropped(client, stored, absent),
            _ => self.long(client, stored),
        }
    }

    fn plain(&mut self, client: &mut Client, stored: &mut Vec<String>) -> Result<(), Error> {
        let (count, id) = (self.rng.usize(1..4), self.id());
        let (sql, mut ids) = self.insert(count);
        client.batch_execute(&sql)?;
        stored.append(&mut ids);
        client.batch_execute(&format!(
            "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('hot', '{id}', 'to retry')"
        ))?;
        self.acknowledged.push(id.clone());
        stored.push(id);
        Ok(())
    }

    fn conflict(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Some(known) = self.rng.choice(&self.acknowledged).cloned() else { return Ok(()) };
        let (before, after) = (self.id(), self.id());
        let row = |id: &str, action: &str| format!("('hot', '{id}', '{action}')");
        let rows = [
            row(&before, "new"),
            row(&known, "dropped by the key"),
            row(&after, "new"),
            row(&before, "twin"),
        ]
        .join(", ");
        let keep = self.rng.bool();
        client.batch_execute(&format!(
            "BEGIN; INSERT INTO audit_events (tenant_id, event_id, action) VALUES {rows} ON CONFLICT DO NOTHING; {}",
            if keep { "COMMIT" } else { "ROLLBACK" }
        ))?;
        if keep { stored } else { absent }.extend([before, after]);
        Ok(())
    }

    fn savepoints(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        client.batch_execute("BEGIN")?;
        for _ in 0..self.rng.u8(1..5) {
            let (kept, ids) = self.insert(1);
            client.batch_execute(&kept)?;
            stored.extend(ids);
            let (sql, ids) = self.insert(2);
            let back = self.rng.bool();
            client.batch_execute(&format!(
                "SAVEPOINT a; {sql}; {}",
                if back { "ROLLBACK TO a" } else { "RELEASE a" }
            ))?;
            if back { &mut *absent } else { &mut *stored }.extend(ids);
        }
        client.batch_execute("COMMIT")
    }

    fn exception_block(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        let (kept, kept_ids) = self.insert(2);
        let (lost, lost_ids) = self.insert(3);
        let (after, after_ids) = self.insert(1);
        client.batch_execute(&format!("DO $do$ BEGIN {kept}; BEGIN {lost}; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END; {after}; END $do$"))?;
        stored.extend(kept_ids.into_iter().chain(after_ids));
        absent.extend(lost_ids);
        Ok(())
    }

    fn copy(&mut self, client: &mut Client, stored: &mut Vec<String>) -> Result<(), Error> {
        let ids: Vec<String> = (0..self.rng.u8(1..30)).map(|_| self.id()).collect();
        let lines: String = ids.iter().map(|id| format!("{}\t{id}\tcopied\n", self.tenant())).collect();
        let mut copy = client.copy_in("COPY audit_events (tenant_id, event_id, action) FROM STDIN")?;
        if copy.write_all(lines.as_bytes()).is_ok() {
            copy.finish()?;
            // The driver returns at CommandComplete. In the extended protocol the commit comes after it, with Sync, and
            // a crash in between sends what the server has buffered. Only the answer to a later message shows a commit.
            client.batch_execute("")?;
            stored.extend(ids);
        }
        Ok(())
    }

    fn insert_select(&mut self, client: &mut Client) -> Result<(), Error> {
        client.batch_execute("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 20, 'selected' FROM generate_series(1, 40) i")
    }

    fn prepared(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        let (sql, ids) = self.insert(2);
        let gid = format!("storm {} {}", self.number, self.events);
        client.batch_execute(&format!("BEGIN; {sql}; PREPARE TRANSACTION '{gid}'"))?;
        let (between, more) = self.insert(1);
        client.batch_execute(&between)?;
        stored.extend(more);
        let keep = self.rng.bool();
        client.batch_execute(&format!("{} PREPARED '{gid}'", if keep { "COMMIT" } else { "ROLLBACK" }))?;
        if keep { stored } else { absent }.extend(ids);
        Ok(())
    }

    fn snapshot(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        let level = ["REPEATABLE READ", "SERIALIZABLE"][self.rng.usize(0..2)];
        client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1"))?;
        let (sql, ids) = self.insert(2);
        client.batch_execute(&sql)?;
        let keep = self.rng.u8(0..4) > 0;
        client.batch_execute(if keep { "COMMIT" } else { "ROLLBACK" })?;
        if keep { stored } else { absent }.extend(ids);
        Ok(())
    }

    fn refused(&mut self, client: &mut Client, absent: &mut Vec<String>) -> Result<(), Error> {
        let (sql, ids) = self.insert(2);
        expect(client.batch_execute(&format!("{sql}, ('hot', gen_random_uuid(), '', NULL)")), "23514")?;
        expect(
            client.batch_execute("INSERT INTO audit_events (tenant_id, action, seq) VALUES ('hot', 'x', 1)"),
            "ZA001",
        )?;
        expect(client.batch_execute("DELETE FROM audit_events WHERE tenant_id = 'nobody'"), "ZA003")?;
        absent.extend(ids);
        Ok(())
    }

    fn dropped(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        let (first, gone, last) = (self.id(), self.id(), self.id());
        client.batch_execute(&format!("INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('hot', '{first}', 'x'), ('hot', '{gone}', 'dropped'), ('hot', '{last}', 'x')"))?;
        stored.extend([first, last]);
        absent.push(gone);
        Ok(())
    }

    /// A transaction that holds its chains while the application is busy elsewhere.
    fn long(&mut self, client: &mut Client, stored: &mut Vec<String>) -> Result<(), Error> {
        let (sql, ids) = self.insert(3);
        client.batch_execute(&format!("BEGIN; {sql}; SELECT pg_sleep(0.03)"))?;
        let (sql, more) = self.insert(1);
        client.batch_execute(&format!("{sql}; COMMIT"))?;
        stored.extend(ids.into_iter().chain(more));
        Ok(())
    }
}
