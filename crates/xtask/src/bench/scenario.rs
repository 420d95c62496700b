//! What is measured. A new scenario is a new entry of [`SCENARIOS`]; a new kind of work is a variant of [`Work`].

/// The table that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The table that a user would write: the same columns, indexes and width, and nothing of ours. Hash columns are filled by
    /// constants, `seq` by a sequence.
    Plain,
    /// The plain table with a CHECK constraint for each rule that the trigger of `audit_events` checks.
    Checked,
    /// `audit_events` itself.
    Ours,
    /// What a user would otherwise write: a PL/pgSQL trigger that locks a head row per tenant and calls sha256().
    PlPgSql,
    /// The plain table on a server where pgaudit logs every statement that writes.
    PgAudit,
    /// `audit_events` while the worker runs every job on its default schedule.
    WithJobs,
    /// What a verification cannot do without: reading each event's largest column, and SHA-256 over as many bytes.
    ReadAndHash,
    /// A server that does not load the library.
    NotLoaded,
    /// A server that loads the library; the statements are none of ours.
    Loaded,
    /// `audit_events` while the job drift runs.
    BesideDrift,
    /// `audit_events` while its events are sealed and published.
    BesideCheckpoints,
}

impl Side {
    /// The table's name.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Plain | Self::PgAudit => "plain_events",
            Self::Checked => "checked_events",
            Self::Ours
            | Self::WithJobs
            | Self::ReadAndHash
            | Self::NotLoaded
            | Self::Loaded
            | Self::BesideDrift
            | Self::BesideCheckpoints => "audit_events",
            Self::PlPgSql => "plpgsql_events",
        }
    }
}

/// How many events a table holds while it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// 2 million, unless the run is a quick one.
    Large,
    /// 10 million, unless the run is a quick one.
    Huge,
}

/// How a client sends its insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Prepared once.
    Prepared,
    /// As text, each time anew.
    Unprepared,
    /// Prepared, inside a savepoint of a transaction, as ORMs do.
    Savepoint,
}

/// What is done to the table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Single-row inserts by pgbench.
    Inserts {
        /// Connections at once.
        clients: u32,
        /// Tenants they write to.
        tenants: u32,
        /// How they are sent.
        form: Form,
    },
    /// A statement of an ordinary session, which has nothing to do with us.
    Session(&'static str),
    /// The slowest hundredth of prepared single-row inserts.
    Tail {
        /// Connections at once.
        clients: u32,
    },
    /// A transaction of five statements, one of them the insert, with 5 ms of think time in all.
    Business {
        /// Connections at once.
        clients: u32,
    },
    /// One INSERT .. SELECT.
    InsertSelect,
    /// One COPY from a file.
    Copy,
    /// One verify_all().
    VerifyAll {
        /// Parallel workers beside the session's own process.
        workers: u32,
    },
    /// One audit_verify(tenant, 1000).
    VerifyLast,
    /// Memory of the session's processes while verify_all() runs.
    VerifyMemory,
    /// Memory of the session's process while audit_export() runs.
    ExportMemory,
    /// One `zeroauth-audit verify-export` of all events.
    VerifyExport,
    /// Memory of that process.
    VerifyExportMemory,
    /// Processor time of one run of the job drift.
    DriftRun,
    /// Prepared single-row inserts by pgbench, into the table that drift replays.
    InsertsBesideDrift {
        /// Connections at once.
        clients: u32,
    },
    /// Processor time of the job checkpoint for each event that is new.
    SealNew {
        /// How many, each with some new events.
        tenants: u32,
    },
    /// Processor time of the job checkpoint when no event is new.
    SealNothing {
        /// How many.
        tenants: u32,
    },
    /// Processor time by which the job drift takes longer because of a tenant's log.
    CompareLogs {
        /// How many.
        tenants: u32,
    },
    /// Space of the hashes of the log for each event.
    Tiles {
        /// How many.
        tenants: u32,
    },
    /// Processor time of the job anchor, which plans one batch of all logs.
    AnchorBatch {
        /// How many.
        tenants: u32,
    },
    /// One audit_prove().
    Prove,
    /// The size of what it returns, without the event.
    ProofSize,
    /// Prepared single-row inserts by pgbench, into a trail that is sealed.
    InsertsBesideCheckpoints {
        /// Connections at once.
        clients: u32,
        /// How many there are beside those that are written to.
        tenants: u32,
    },
}

/// What a measurement is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Events, or transactions, a second.
    Rate,
    Milliseconds,
    Microseconds,
    Mebibytes,
    Bytes,
}

impl Work {
    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Tail { .. }
            | Self::VerifyLast
            | Self::DriftRun
            | Self::SealNothing { .. }
            | Self::AnchorBatch { .. }
            | Self::Prove => Unit::Milliseconds,
            Self::SealNew { .. } | Self::CompareLogs { .. } => Unit::Microseconds,
            Self::Tiles { .. } | Self::ProofSize => Unit::Bytes,
            Self::VerifyMemory | Self::ExportMemory | Self::VerifyExportMemory => Unit::Mebibytes,
            _ => Unit::Rate,
        }
    }

    /// Memory and space do not depend on what else the machine does: once is enough. Each round of new events makes the table
    /// a tenth larger.
    pub(crate) fn rounds(self, rounds: usize) -> usize {
        match self.unit() {
            Unit::Mebibytes | Unit::Bytes => 1,
            Unit::Microseconds => rounds.min(3),
            _ => rounds,
        }
    }
}

/// What is good enough: of the ratio, or of the value where there is no baseline.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// One line of the results.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    /// What is compared with; None where only the value itself says something.
    pub(crate) baseline: Option<Side>,
    pub(crate) subject: Side,
    /// What the subject is compared with beside that, so that nobody is misled.
    pub(crate) second: Option<Side>,
    pub(crate) target: Option<Target>,
}

/// Everything that is measured, in the order of the table.
pub(crate) const SCENARIOS: &[Scenario] = &[
    inserts("inserts: 1 tenant, 16 clients", 16, 1, Form::Prepared, 0.95),
    inserts("inserts: 1 tenant, 64 clients", 64, 1, Form::Prepared, 0.93),
    inserts("inserts: 100 tenants, 16 clients", 16, 100, Form::Prepared, 0.95),
    inserts("inserts in a savepoint: 1 tenant, 16 clients", 16, 1, Form::Savepoint, 0.92),
    inserts("inserts, not prepared: 1 tenant, 16 clients", 16, 1, Form::Unprepared, 0.92),
    with_jobs("inserts beside all jobs: 1 tenant, 16 clients", 16, 1, 0.92),
    with_jobs("inserts beside all jobs: 1 tenant, 64 clients", 64, 1, 0.90),
    with_jobs("inserts beside all jobs: 100 tenants, 16 clients", 16, 100, 0.92),
    compared(
        "p99 of an insert: 1 tenant, 16 clients",
        Work::Tail { clients: 16 },
        Side::Ours,
        Some(Target::AtMost(1.3)),
    ),
    compared(
        "business transactions: 1 tenant, 32 clients",
        Work::Business { clients: 32 },
        Side::Ours,
        Some(Target::AtLeast(0.95)),
    ),
    compared("INSERT .. SELECT, 100 tenants", Work::InsertSelect, Side::Ours, Some(Target::AtLeast(0.90))),
    compared("COPY, 100 tenants", Work::Copy, Side::Ours, Some(Target::AtLeast(0.95))),
    session("SELECT 1, the library preloaded", "SELECT 1;"),
    session("BEGIN; COMMIT, the library preloaded", "BEGIN; COMMIT;"),
    compared("PL/pgSQL chain instead: 1 tenant, 16 clients", prepared(16, 1), Side::PlPgSql, None),
    compared("PL/pgSQL chain instead: 100 tenants, 16 clients", prepared(16, 100), Side::PlPgSql, None),
    compared(
        "PL/pgSQL chain instead: business transactions",
        Work::Business { clients: 32 },
        Side::PlPgSql,
        None,
    ),
    compared("pgaudit instead: 1 tenant, 16 clients", prepared(16, 1), Side::PgAudit, None),
    verify("audit_verify(), one core", 0),
    verify("audit_verify(), two cores", 1),
    alone("audit_verify(tenant, 1000)", Work::VerifyLast, Some(Target::AtMost(10.0))),
    alone("memory of audit_verify()", Work::VerifyMemory, Some(Target::AtMost(64.0))),
    alone("memory of audit_export", Work::ExportMemory, Some(Target::AtMost(64.0))),
    alone("zeroauth-audit verify-export, one core", Work::VerifyExport, Some(Target::AtLeast(500_000.0))),
    alone("memory of zeroauth-audit verify-export", Work::VerifyExportMemory, Some(Target::AtMost(64.0))),
    // Last: they leave a table behind that no other scenario takes for its own.
    alone("drift: processor time of a run, 1000 tenants", Work::DriftRun, None),
    Scenario {
        name: "drift: inserts beside a paced run, 16 clients",
        work: Work::InsertsBesideDrift { clients: 16 },
        baseline: Some(Side::Ours),
        subject: Side::BesideDrift,
        second: None,
        target: Some(Target::AtLeast(0.97)),
    },
    alone(
        "log: bytes of tiles per event, 1000 tenants",
        Work::Tiles { tenants: 1000 },
        Some(Target::AtMost(40.0)),
    ),
    alone(
        "log: processor time of a checkpoint per new event, 1000 tenants",
        Work::SealNew { tenants: 1000 },
        None,
    ),
    Scenario {
        name: "log: inserts beside a checkpoint every 3 s, 16 clients",
        work: Work::InsertsBesideCheckpoints { clients: 16, tenants: 1000 },
        baseline: Some(Side::Ours),
        subject: Side::BesideCheckpoints,
        second: None,
        target: Some(Target::AtLeast(0.95)),
    },
    alone(
        "log: processor time of a checkpoint per new event, 10000 tenants",
        Work::SealNew { tenants: 10_000 },
        None,
    ),
    alone(
        "log: processor time of a checkpoint of nothing new, 10000 tenants",
        Work::SealNothing { tenants: 10_000 },
        Some(Target::AtMost(1000.0)),
    ),
    alone(
        "log: processor time of a drift run per tenant's log, 10000 tenants",
        Work::CompareLogs { tenants: 10_000 },
        None,
    ),
    alone(
        "log: processor time of an anchor's batch, 10000 tenants",
        Work::AnchorBatch { tenants: 10_000 },
        None,
    ),
    alone("log: proof of one event of one tenant's", Work::Prove, Some(Target::AtMost(5.0))),
    alone("log: size of a proof without its event", Work::ProofSize, Some(Target::AtMost(2048.0))),
];

const fn prepared(clients: u32, tenants: u32) -> Work {
    Work::Inserts { clients, tenants, form: Form::Prepared }
}

const fn inserts(name: &'static str, clients: u32, tenants: u32, form: Form, least: f64) -> Scenario {
    Scenario {
        name,
        work: Work::Inserts { clients, tenants, form },
        baseline: Some(Side::Plain),
        subject: Side::Ours,
        second: Some(Side::Checked),
        target: Some(Target::AtLeast(least)),
    }
}

const fn with_jobs(name: &'static str, clients: u32, tenants: u32, least: f64) -> Scenario {
    Scenario {
        subject: Side::WithJobs,
        second: None,
        ..inserts(name, clients, tenants, Form::Prepared, least)
    }
}

const fn session(name: &'static str, statements: &'static str) -> Scenario {
    Scenario {
        name,
        work: Work::Session(statements),
        baseline: Some(Side::NotLoaded),
        subject: Side::Loaded,
        second: None,
        target: Some(Target::AtLeast(0.99)),
    }
}

const fn verify(name: &'static str, workers: u32) -> Scenario {
    Scenario {
        name,
        work: Work::VerifyAll { workers },
        baseline: Some(Side::ReadAndHash),
        subject: Side::Ours,
        second: None,
        target: None,
    }
}

const fn compared(name: &'static str, work: Work, subject: Side, target: Option<Target>) -> Scenario {
    let second = match work {
        Work::Copy | Work::InsertSelect => Some(Side::Checked),
        _ => None,
    };
    Scenario { name, work, baseline: Some(Side::Plain), subject, second, target }
}

const fn alone(name: &'static str, work: Work, target: Option<Target>) -> Scenario {
    Scenario { name, work, baseline: None, subject: Side::Ours, second: None, target }
}
