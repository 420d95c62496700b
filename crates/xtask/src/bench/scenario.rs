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
}

impl Side {
    /// The table's name.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Plain => "plain_events",
            Self::Ours => "audit_events",
            Self::PlPgSql => "plpgsql_events",
        }
    }
}

/// What is done to the table, in events a second.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Prepared single-row inserts by pgbench.
    Inserts {
        /// Connections at once.
        clients: u32,
        /// Tenants they write to.
        tenants: u32,
    },
    /// One INSERT .. SELECT.
    InsertSelect,
    /// One COPY from a file.
    Copy,
    /// One audit_verify_all().
    VerifyAll {
        /// Parallel workers beside the session's own process.
        workers: u32,
    },
}

/// One line of the results.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    /// What is compared with; None where only the rate itself says something.
    pub(crate) baseline: Option<Side>,
    pub(crate) subject: Side,
    /// The least ratio, or without a baseline the least rate, that is good enough.
    pub(crate) target: Option<f64>,
}

/// Everything that is measured, in the order of the table.
pub(crate) const SCENARIOS: &[Scenario] = &[
    inserts("inserts: 1 tenant, 16 clients", 16, 1, Side::Ours, Some(0.90)),
    inserts("inserts: 1 tenant, 64 clients", 64, 1, Side::Ours, None),
    inserts("inserts: 100 tenants, 16 clients", 16, 100, Side::Ours, None),
    Scenario {
        name: "INSERT .. SELECT",
        work: Work::InsertSelect,
        baseline: Some(Side::Plain),
        subject: Side::Ours,
        target: Some(0.75),
    },
    Scenario {
        name: "COPY",
        work: Work::Copy,
        baseline: Some(Side::Plain),
        subject: Side::Ours,
        target: Some(0.60),
    },
    inserts("PL/pgSQL chain instead: 1 tenant, 16 clients", 16, 1, Side::PlPgSql, None),
    inserts("PL/pgSQL chain instead: 100 tenants, 16 clients", 16, 100, Side::PlPgSql, None),
    verify("audit_verify_all, one core", 0, Some(600_000.0)),
    verify("audit_verify_all, two processes", 1, None),
];

const fn inserts(
    name: &'static str,
    clients: u32,
    tenants: u32,
    subject: Side,
    target: Option<f64>,
) -> Scenario {
    Scenario { name, work: Work::Inserts { clients, tenants }, baseline: Some(Side::Plain), subject, target }
}

const fn verify(name: &'static str, workers: u32, target: Option<f64>) -> Scenario {
    Scenario { name, work: Work::VerifyAll { workers }, baseline: None, subject: Side::Ours, target }
}
