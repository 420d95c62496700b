//! The building blocks of an attack by a superuser, and how a seed puts them together.
//!
//! A block is what a superuser types. It may be refused; the attack then goes on with the next one.

use std::fmt;

use fastrand::Rng;

/// Whose trail is attacked. Another tenant's is left alone.
pub(super) const TARGET: &str = "target";
/// Events of each tenant before the attack, all of them sealed.
pub(super) const SEALED: u32 = 20;

/// A way to have the guards off for a while. `off` is what is typed before the edits, `on` what puts it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lift {
    /// The documented switch.
    Maintenance,
    /// The triggers switched off under maintenance, which is off again before the edit.
    DisabledTriggers,
    /// The row trigger dropped under maintenance, and made anew.
    DroppedTrigger,
    /// `pg_class.relhastriggers`: no trigger fires, and none was touched.
    RelHasTriggers,
    /// `pg_trigger.tgenabled`.
    TriggerRow,
    /// The extension under another name, so that nothing of it is known.
    Renamed,
    /// The function of the trigger replaced.
    OtherFunction,
    /// Replica role; our triggers fire all the same.
    ReplicaRole,
    /// Rewrite rules and row security leave the row as it is: tried with no guard lifted.
    Nothing,
}

/// What is done to stored events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Field(u32),
    Private(u32),
    DeleteMiddle(u32),
    DeleteTail(u32),
    DeleteTenant,
    Truncate,
    Swap(u32),
    Move(u32),
    /// Made to another value and back to what it was.
    ThereAndBack(u32),
}

/// A memory that is made to forget the target, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forget {
    Watermarks,
    Log,
    Registry,
    EndedLog,
    Findings,
    Tenants,
    Tripwires,
    Notes,
    Counters,
    Alerts,
    Runs,
}

/// What else the transaction does that supplies an event, so that what it stored is not what it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    /// A chained event that ON CONFLICT DO NOTHING drops.
    Dropped,
    /// A chained event in a savepoint that is rolled back.
    RolledBack,
    /// A stored event deleted.
    Deleted,
}

/// One step of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// The guards go off by `.0`, `.1` is done, with all hashes after it recomputed if `.2`, and the guards go on.
    Tamper(Lift, Edit, bool),
    /// Guards off and on again, with nothing between.
    OffAndOn(Lift),
    Forget(Lift, Forget),
    /// A stored event inserted once more.
    Copy,
    /// The same, rolled back: nothing is stored.
    CopyRolledBack,
    /// An event with right hashes, backdated, under another role.
    Supplied(Beside),
    /// The application goes on.
    Grow,
    /// A job, by hand.
    Job(&'static str),
    /// Statistics of this session are not counted from here on.
    Uncounted,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

fn one_of<T: Copy>(random: &mut Rng, all: &[T]) -> T {
    all[random.usize(..all.len())]
}

const LIFTS: [Lift; 9] = [
    Lift::Maintenance,
    Lift::DisabledTriggers,
    Lift::DroppedTrigger,
    Lift::RelHasTriggers,
    Lift::TriggerRow,
    Lift::Renamed,
    Lift::OtherFunction,
    Lift::ReplicaRole,
    Lift::Nothing,
];
const BESIDES: [Beside; 4] = [Beside::Nothing, Beside::Dropped, Beside::RolledBack, Beside::Deleted];
const MEMORIES: [Forget; 11] = [
    Forget::Watermarks,
    Forget::Log,
    Forget::Registry,
    Forget::EndedLog,
    Forget::Findings,
    Forget::Tenants,
    Forget::Tripwires,
    Forget::Notes,
    Forget::Counters,
    Forget::Alerts,
    Forget::Runs,
];

fn edit(random: &mut Rng) -> Edit {
    let at = random.u32(2..SEALED - 1);
    match random.u32(..9) {
        0 => Edit::Field(at),
        1 => Edit::Private(at),
        2 => Edit::DeleteMiddle(at),
        3 => Edit::DeleteTail(at),
        4 => Edit::DeleteTenant,
        5 => Edit::Truncate,
        6 => Edit::Swap(at),
        7 => Edit::Move(at),
        _ => Edit::ThereAndBack(at),
    }
}

fn block(random: &mut Rng) -> Block {
    let lift = one_of(random, &LIFTS);
    match random.u32(..12) {
        0..=3 => Block::Tamper(lift, edit(random), random.bool()),
        4 => Block::OffAndOn(lift),
        5 | 6 => Block::Forget(lift, one_of(random, &MEMORIES)),
        7 => one_of(random, &[Block::Copy, Block::CopyRolledBack]),
        8 => Block::Supplied(one_of(random, &BESIDES)),
        9 => Block::Grow,
        10 => Block::Job(one_of(random, &["checkpoint", "tripwire", "drift"])),
        _ => Block::Uncounted,
    }
}

/// The attack of a seed: one to seven blocks, in any order.
pub(super) fn attack(seed: u64) -> Vec<Block> {
    let mut random = Rng::with_seed(seed);
    (0..random.usize(1..=7)).map(|_| block(&mut random)).collect()
}

/// What is typed; each statement by itself, since any may be refused.
pub(super) fn statements(block: Block) -> Vec<String> {
    let typed = |statements: &[&str]| statements.iter().map(|&sql| sql.to_owned()).collect();
    match block {
        Block::Tamper(lift, edit, recompute) => between(lift, {
            let mut all = edited(edit);
            if recompute {
                all.push(recomputed());
            }
            all
        }),
        Block::OffAndOn(lift) => between(lift, Vec::new()),
        Block::Forget(lift, memory) => between(lift, forgotten(memory)),
        Block::Copy => typed(&[
            "INSERT INTO audit_events SELECT * FROM audit_events WHERE tenant_id = 'target' AND seq = 1 ON CONFLICT DO NOTHING",
        ]),
        Block::CopyRolledBack => typed(&[
            "BEGIN",
            "INSERT INTO audit_events SELECT * FROM audit_events WHERE tenant_id = 'target' AND seq = 1 ON CONFLICT DO NOTHING",
            "ROLLBACK",
        ]),
        Block::Supplied(beside) => supplied_beside(beside),
        Block::Grow => typed(&[
            "INSERT INTO audit_events (tenant_id, action) VALUES ('target', 'grown'), ('other', 'grown')",
        ]),
        Block::Job(job) => vec![format!("SELECT audit_job_run('{job}')")],
        Block::Uncounted => typed(&["SET track_counts = off"]),
    }
}

fn between(lift: Lift, work: Vec<String>) -> Vec<String> {
    let (off, on): (&[&str], &[&str]) = match lift {
        Lift::Maintenance => {
            (&["SET zeroauth_audit.maintenance = on"], &["RESET zeroauth_audit.maintenance"])
        }
        Lift::DisabledTriggers => (
            &[
                "SET zeroauth_audit.maintenance = on",
                "ALTER TABLE audit_events DISABLE TRIGGER ALL",
                "RESET zeroauth_audit.maintenance",
            ],
            &[
                "SET zeroauth_audit.maintenance = on",
                "ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain",
                "ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row",
                "ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_statement",
                "RESET zeroauth_audit.maintenance",
            ],
        ),
        Lift::DroppedTrigger => (
            &[
                "SET zeroauth_audit.maintenance = on",
                "ALTER EXTENSION zeroauth_audit DROP FUNCTION zeroauth_audit_internal.refuse_row()",
                "DROP TRIGGER zeroauth_audit_refuse_row ON audit_events",
                "DROP TRIGGER zeroauth_audit_refuse_statement ON audit_events",
                "RESET zeroauth_audit.maintenance",
            ],
            &[
                "SET zeroauth_audit.maintenance = on",
                "ALTER EXTENSION zeroauth_audit ADD FUNCTION zeroauth_audit_internal.refuse_row()",
                "CREATE TRIGGER zeroauth_audit_refuse_row BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_row()",
                "CREATE TRIGGER zeroauth_audit_refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION zeroauth_audit_internal.refuse_statement()",
                "ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row",
                "ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_statement",
                "RESET zeroauth_audit.maintenance",
            ],
        ),
        Lift::RelHasTriggers => (
            &[
                "SET allow_system_table_mods = on",
                "UPDATE pg_class SET relhastriggers = false WHERE oid = 'audit_events'::regclass",
            ],
            &[
                "UPDATE pg_class SET relhastriggers = true WHERE oid = 'audit_events'::regclass",
                "RESET allow_system_table_mods",
            ],
        ),
        Lift::TriggerRow => (
            &[
                "SET allow_system_table_mods = on",
                "UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'audit_events'::regclass",
            ],
            &[
                "UPDATE pg_trigger SET tgenabled = 'A' WHERE tgrelid = 'audit_events'::regclass",
                "RESET allow_system_table_mods",
            ],
        ),
        Lift::Renamed => (
            &[
                "SET allow_system_table_mods = on",
                "UPDATE pg_extension SET extname = 'other' WHERE extname = 'zeroauth_audit'",
                "ALTER TABLE audit_events DISABLE TRIGGER ALL",
            ],
            &[
                "ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain",
                "ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row",
                "ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_statement",
                "UPDATE pg_extension SET extname = 'zeroauth_audit' WHERE extname = 'other'",
                "RESET allow_system_table_mods",
            ],
        ),
        Lift::OtherFunction => (
            &[
                "CREATE OR REPLACE FUNCTION public.lenient() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END'",
                "SET allow_system_table_mods = on",
                "UPDATE pg_trigger SET tgfoid = 'public.lenient'::regproc WHERE tgrelid = 'audit_events'::regclass AND tgname LIKE '%refuse%'",
                "UPDATE pg_class SET relhastriggers = true WHERE oid = 'audit_events'::regclass",
            ],
            &[
                "UPDATE pg_trigger SET tgfoid = 'zeroauth_audit_internal.refuse_row'::regproc WHERE tgrelid = 'audit_events'::regclass AND tgname = 'zeroauth_audit_refuse_row'",
                "UPDATE pg_trigger SET tgfoid = 'zeroauth_audit_internal.refuse_statement'::regproc WHERE tgrelid = 'audit_events'::regclass AND tgname = 'zeroauth_audit_refuse_statement'",
                "UPDATE pg_class SET relhastriggers = true WHERE oid = 'audit_events'::regclass",
                "RESET allow_system_table_mods",
            ],
        ),
        Lift::ReplicaRole => {
            (&["SET session_replication_role = replica"], &["RESET session_replication_role"])
        }
        Lift::Nothing => (&[], &[]),
    };
    let owned = |list: &[&str]| list.iter().map(|&sql| sql.to_owned()).collect::<Vec<_>>();
    [owned(off), work, owned(on)].concat()
}

fn edited(edit: Edit) -> Vec<String> {
    let at = |seq: u32| format!("tenant_id = '{TARGET}' AND chain = 0 AND seq = {seq}");
    match edit {
        Edit::Field(seq) => vec![format!("UPDATE audit_events SET action = 'forged' WHERE {}", at(seq))],
        Edit::Private(seq) => {
            vec![format!("UPDATE audit_events SET details = '{{\"forged\": true}}' WHERE {}", at(seq))]
        }
        Edit::DeleteMiddle(seq) => vec![format!("DELETE FROM audit_events WHERE {}", at(seq))],
        Edit::DeleteTail(seq) => {
            vec![format!(
                "DELETE FROM audit_events WHERE tenant_id = '{TARGET}' AND chain = 0 AND seq >= {seq}"
            )]
        }
        Edit::DeleteTenant => vec![format!("DELETE FROM audit_events WHERE tenant_id = '{TARGET}'")],
        Edit::Truncate => vec!["TRUNCATE audit_events".to_owned()],
        Edit::Swap(seq) => vec![format!(
            "UPDATE audit_events e SET action = o.action, details = o.details FROM audit_events o WHERE e.tenant_id = '{TARGET}' AND o.tenant_id = e.tenant_id AND e.chain = 0 AND o.chain = 0 AND (e.seq, o.seq) IN (({seq}, {next}), ({next}, {seq}))",
            next = seq + 1
        )],
        Edit::Move(seq) => {
            vec![format!("UPDATE audit_events SET tenant_id = 'elsewhere' WHERE {}", at(seq))]
        }
        Edit::ThereAndBack(seq) => vec![
            format!("UPDATE audit_events SET resource = 'forged' WHERE {}", at(seq)),
            format!("UPDATE audit_events SET resource = NULL WHERE {}", at(seq)),
        ],
    }
}

const HASHED: &str = "tenant_id, r.chain, r.seq, r.event_id, r.occurred_at, r.recorded_at, r.category, r.action, r.outcome, r.severity, r.resource, r.service_name, r.env, r.provider, r.request_id, r.correlation_id, r.trace_id, r.span_id, r.status_code, r.latency_ms, r.payload_size, r.error_code, r.db_role, coalesce(r.private_hash, zeroauth_audit_internal.private_hash(r.salt, r.actor_type, r.actor_id, r.ip, r.user_agent, r.error_message, r.details))";

/// All hashes of the target's first chain made right again, numbers without gaps.
fn recomputed() -> String {
    format!(
        "DO $$ DECLARE r record; h bytea := decode(repeat('00', 32), 'hex'); p bytea; n bigint := 0; BEGIN
           FOR r IN SELECT * FROM audit_events WHERE tenant_id = '{TARGET}' AND chain = 0 ORDER BY seq LOOP
             n := n + 1; p := h;
             IF r.seq <> n THEN UPDATE audit_events SET seq = n WHERE tenant_id = '{TARGET}' AND chain = 0 AND seq = r.seq; r.seq := n; END IF;
             h := zeroauth_audit_internal.event_hash(p, r.{HASHED});
             IF r.event_hash <> h OR r.prev_hash <> p THEN
               UPDATE audit_events SET prev_hash = p, event_hash = h WHERE tenant_id = '{TARGET}' AND chain = 0 AND seq = n;
             END IF;
           END LOOP; END $$"
    )
}

/// An event of 2020, as if another role had written it, with right hashes.
pub(super) fn supplied() -> String {
    format!(
        "INSERT INTO audit_events SELECT (jsonb_populate_record(r, jsonb_build_object('event_hash', zeroauth_audit_internal.event_hash(r.prev_hash, r.{HASHED})))).*
           FROM (SELECT (jsonb_populate_record(e, jsonb_build_object('seq', e.seq + 1, 'event_id', gen_random_uuid(), 'prev_hash', e.event_hash, 'action', 'transfer.approved', 'db_role', 'alice', 'recorded_at', '2020-01-01', 'occurred_at', '2020-01-01'))).*
                   FROM (SELECT * FROM audit_events WHERE tenant_id = '{TARGET}' AND chain = 0 ORDER BY seq DESC LIMIT 1) e) r"
    )
}

fn supplied_beside(beside: Beside) -> Vec<String> {
    let before: &[&str] = match beside {
        Beside::Nothing => return vec![supplied()],
        Beside::Dropped => &[
            "INSERT INTO audit_events (tenant_id, action, event_id) SELECT tenant_id, 'dropped', event_id FROM audit_events WHERE tenant_id = 'other' LIMIT 1 ON CONFLICT DO NOTHING",
        ],
        Beside::RolledBack => &[
            "SAVEPOINT s",
            "INSERT INTO audit_events (tenant_id, action) VALUES ('other', 'rolled back')",
            "ROLLBACK TO s",
        ],
        Beside::Deleted => &[
            "SET LOCAL zeroauth_audit.maintenance = on",
            "DELETE FROM audit_events WHERE tenant_id = 'target' AND chain = 0 AND seq = 1",
        ],
    };
    let typed = before.iter().map(|&sql| sql.to_owned());
    ["BEGIN".to_owned()].into_iter().chain(typed).chain([supplied(), "COMMIT".to_owned()]).collect()
}

fn forgotten(memory: Forget) -> Vec<String> {
    const SCHEMA: &str = "zeroauth_audit_internal";
    let of_target = |tables: &[&str]| {
        tables
            .iter()
            .map(|table| format!("DELETE FROM {SCHEMA}.{table} WHERE tenant_id = '{TARGET}'"))
            .collect()
    };
    match memory {
        Forget::Watermarks => of_target(&["watermarks"]),
        Forget::Log => of_target(&["log_intervals", "tiles", "checkpoints", "logs", "watermarks"]),
        Forget::EndedLog => vec![
            format!(
                "UPDATE {SCHEMA}.logs SET state = 'ended', ended_at = now() WHERE tenant_id = '{TARGET}'"
            ),
            format!("INSERT INTO {SCHEMA}.logs (tenant_id, epoch) VALUES ('{TARGET}', 1)"),
            format!("DELETE FROM {SCHEMA}.watermarks WHERE tenant_id = '{TARGET}'"),
        ],
        Forget::Registry => ["registry_entries", "registry_tiles", "registry_runs", "registry_names"]
            .iter()
            .map(|table| format!("DELETE FROM {SCHEMA}.{table}"))
            .collect(),
        Forget::Findings => of_target(&["drift_findings"]),
        Forget::Tenants => of_target(&["tenants"]),
        Forget::Tripwires => vec![format!("DELETE FROM {SCHEMA}.tripwire_state")],
        Forget::Notes => vec![format!(
            "SELECT {SCHEMA}.privileged_uses_told(u.board, u.at) FROM {SCHEMA}.privileged_uses() u"
        )],
        Forget::Counters => vec![
            "SELECT pg_stat_force_next_flush()".to_owned(),
            "SELECT pg_stat_reset_single_table_counters('audit_events'::regclass)".to_owned(),
        ],
        Forget::Alerts => {
            vec![format!("DELETE FROM {SCHEMA}.alert_deliveries"), format!("DELETE FROM {SCHEMA}.alerts")]
        }
        Forget::Runs => vec![format!("DELETE FROM {SCHEMA}.job_runs")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_attack_and_every_block_comes_up() {
        assert_eq!(attack(7), attack(7));
        let all: Vec<Block> = (0..2000).flat_map(attack).collect();
        for lift in LIFTS {
            assert!(
                all.iter().any(|block| matches!(block, Block::Tamper(by, ..) if *by == lift)),
                "{lift:?}"
            );
        }
        for memory in MEMORIES {
            assert!(
                all.iter().any(|block| matches!(block, Block::Forget(_, of) if *of == memory)),
                "{memory:?}"
            );
        }
        for block in [Block::Copy, Block::CopyRolledBack, Block::Grow, Block::Uncounted] {
            assert!(all.contains(&block), "{block}");
        }
        for beside in BESIDES {
            assert!(all.contains(&Block::Supplied(beside)), "{beside:?}");
        }
        assert!(
            all.iter()
                .all(|block| !statements(*block).is_empty() || *block == Block::OffAndOn(Lift::Nothing))
        );
    }
}
