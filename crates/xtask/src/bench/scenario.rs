//! What is measured. A new scenario is a new entry of [`SCENARIOS`]; a new kind of work is a variant of [`Work`].

/// The table that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The same columns, constraints and indexes, without triggers; hash columns are filled by constants.
    Plain,
    /// `audit_events` itself.
    Ours,
    /// What a user would otherwise write: a PL/pgSQL trigger that locks a head row per tenant and calls sha256().
    PlPgSql,
    /// `audit_events` while the job drift runs.
    BesideDrift,
    /// `audit_events` while its events are sealed and published.
    BesideCheckpoints,
}

impl Side {
    /// The table's name.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Plain => "plain_events",
            Self::Ours | Self::BesideDrift | Self::BesideCheckpoints => "audit_events",
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

/// What is done to the table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Prepared single-row inserts by pgbench.
    Inserts {
        /// Connections at once.
        clients: u32,
        /// Tenants they write to.
        tenants: u32,
    },
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
    pub(crate) target: Option<Target>,
}

/// Everything that is measured, in the order of the table.
pub(crate) const SCENARIOS: &[Scenario] = &[
    compared("inserts: 1 tenant, 16 clients", inserts(16, 1), Side::Ours, Some(Target::AtLeast(0.90))),
    compared("inserts: 1 tenant, 64 clients", inserts(64, 1), Side::Ours, Some(Target::AtLeast(0.85))),
    compared("inserts: 100 tenants, 16 clients", inserts(16, 100), Side::Ours, Some(Target::AtLeast(0.92))),
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
    compared("INSERT .. SELECT, 100 tenants", Work::InsertSelect, Side::Ours, Some(Target::AtLeast(0.75))),
    compared("COPY, 100 tenants", Work::Copy, Side::Ours, Some(Target::AtLeast(0.65))),
    compared("PL/pgSQL chain instead: 1 tenant, 16 clients", inserts(16, 1), Side::PlPgSql, None),
    compared("PL/pgSQL chain instead: 100 tenants, 16 clients", inserts(16, 100), Side::PlPgSql, None),
    compared(
        "PL/pgSQL chain instead: business transactions",
        Work::Business { clients: 32 },
        Side::PlPgSql,
        None,
    ),
    alone("zeroauth_audit_internal.verify_all, one core", Work::VerifyAll { workers: 0 }, None),
    alone(
        "zeroauth_audit_internal.verify_all, two cores",
        Work::VerifyAll { workers: 1 },
        Some(Target::AtLeast(1_200_000.0)),
    ),
    alone("audit_verify(tenant, 1000)", Work::VerifyLast, Some(Target::AtMost(10.0))),
    alone("memory of zeroauth_audit_internal.verify_all", Work::VerifyMemory, Some(Target::AtMost(64.0))),
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

const fn inserts(clients: u32, tenants: u32) -> Work {
    Work::Inserts { clients, tenants }
}

const fn compared(name: &'static str, work: Work, subject: Side, target: Option<Target>) -> Scenario {
    Scenario { name, work, baseline: Some(Side::Plain), subject, target }
}

const fn alone(name: &'static str, work: Work, target: Option<Target>) -> Scenario {
    Scenario { name, work, baseline: None, subject: Side::Ours, target }
}
