//! The BEFORE INSERT trigger: gives an event its place in its tenant's chain, and its hash.
//!
//! Fires on every path a row can take into the table (INSERT, COPY, MERGE, logical replication, replica role). A row
//! without hashes is chained. A row that brings its own hashes (pg_restore, logical replication, an archive) is
//! recomputed and kept as it is, or refused: hashing it anew would turn any forgery into a valid event.

use std::cell::RefCell;

use pgrx::pg_sys;
use zeroauth_audit_core::hash::HASH_VERSION;
use zeroauth_audit_core::{Salt, whole_event_hash};

use crate::chain::at_commit;
use crate::chain::chain_end::Head;
use crate::chain::head;
use crate::chain::lock;
use crate::chain::lock::Claim;
use crate::chain::neighbours::{self, Misfit, Stored};
use crate::chain::shared_heads;
use crate::chain::supplied;
use crate::chain::under_policy;
use crate::pg::call::{self, Arguments, Fires, sql_function, trigger_data};
use crate::pg::error::{Failure, Kind};
use crate::pg::random;
use crate::pg::settings;
use crate::pg::time;
use crate::pg::varlena::{self, ShortVarlena};
use crate::pg::versions;
use crate::shared::privileged_use::{self, What};
use crate::trail::columns::{self, COLUMNS, COUNT, ContentFinding, Scratch, at};
use crate::trail::membership::OWN_TENANT;
use crate::trail::own_tenant;
use crate::trail::rules;
use crate::trail::scratch;

/// Columns that only the server sets.
const SERVER_SET: [usize; 9] = [
    at::CHAIN,
    at::SEQ,
    at::RECORDED_AT,
    at::DB_ROLE,
    at::SALT,
    at::PRIVATE_HASH,
    at::PREV_HASH,
    at::EVENT_HASH,
    at::HASH_VERSION,
];

/// Columns that a user may have added, dropped ones included, before the trigger refuses the table.
const MOST_COLUMNS: usize = 64;

// Never raise: called without pgrx's guard, which costs more than they do.
unsafe extern "C-unwind" {
    fn GetCurrentTimestamp() -> i64;
    fn GetCurrentTransactionStartTimestamp() -> i64;
    fn heap_deform_tuple(
        tuple: pg_sys::HeapTuple,
        desc: pg_sys::TupleDesc,
        values: *mut pg_sys::Datum,
        nulls: *mut bool,
    );
}

/// A row as the executor hands it over, taken apart.
struct Row {
    values: [pg_sys::Datum; MOST_COLUMNS],
    nulls: [bool; MOST_COLUMNS],
}

impl Row {
    #[inline]
    fn value(&self, n: usize) -> Option<pg_sys::Datum> {
        (!self.nulls[n]).then_some(self.values[n])
    }

    #[inline]
    fn set(&mut self, n: usize, datum: pg_sys::Datum) {
        self.values[n] = datum;
        self.nulls[n] = false;
    }

    /// An explicit NULL is what log shippers and ORMs send for a column that they have nothing for: it gets the column's default.
    fn fill_defaults(&mut self) {
        static SUCCESS: ShortVarlena<8> = ShortVarlena::new(b"success");
        static INFO: ShortVarlena<5> = ShortVarlena::new(b"info");
        if self.nulls[at::OCCURRED_AT] {
            // SAFETY: reads transaction state of this process.
            let now = unsafe { GetCurrentTransactionStartTimestamp() };
            self.set(at::OCCURRED_AT, pg_sys::Datum::from(now));
        }
        if self.nulls[at::OUTCOME] {
            self.set(at::OUTCOME, SUCCESS.datum());
        }
        if self.nulls[at::SEVERITY] {
            self.set(at::SEVERITY, INFO.datum());
        }
    }

    /// The columns among [`SERVER_SET`] that the caller supplied.
    fn supplied(&self) -> impl Iterator<Item = usize> {
        SERVER_SET.into_iter().filter(|&n| !self.nulls[n])
    }
}

fn chain_event(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let trigger = trigger_data(arguments, Fires::BeforeRow)?;
    if trigger.tg_event & pg_sys::TRIGGER_EVENT_OPMASK != pg_sys::TRIGGER_EVENT_INSERT {
        return Err(call::wrong_trigger());
    }
    let relation = trigger.tg_relation;
    // SAFETY: the executor holds the relation open while its triggers run.
    unsafe { privileged_use::note_replica(relation, What::ReplicaInsert) };
    // SAFETY: as above.
    let key = unsafe { head::checked_key(relation)? };
    // SAFETY: as above.
    let desc = unsafe { (*relation).rd_att };
    // SAFETY: live with the relation.
    if unsafe { (*desc).natts } as usize > MOST_COLUMNS {
        return Err(Failure::new(
            Kind::UnexpectedTable,
            format!("audit_events has more than {MOST_COLUMNS} columns"),
        )
        .hint("Move columns of your own to a table beside it, keyed by tenant_id and event_id."));
    }
    let mut row = Row { values: [pg_sys::Datum::null(); MOST_COLUMNS], nulls: [true; MOST_COLUMNS] };
    // SAFETY: the arrays have room for every attribute.
    unsafe {
        heap_deform_tuple(trigger.tg_trigtuple, desc, row.values.as_mut_ptr(), row.nulls.as_mut_ptr());
    }
    let unchanged = pg_sys::Datum::from(trigger.tg_trigtuple);
    if row.supplied().next().is_some() {
        // SAFETY: the relation is open.
        unsafe { check_supplied(&row, relation)? };
        // SAFETY: the relation is open, the values are those of the row.
        unsafe { rules::stored(relation, |n| row.value(n))? };
        // SAFETY: the values are those of the row.
        let event = unsafe { brought(&row) };
        // SAFETY: the relation is open, and passed checked_key.
        if unsafe { is_stored(&row, &event, relation, key)? } {
            // Loaded before, or by another subscription: no row comes of it.
            return Ok(pg_sys::Datum::null());
        }
        head::forget();
        at_commit::watch();
        // SAFETY: the relation is open.
        shared_heads::unlocked_writer_begins(unsafe { head::place(relation) });
        // SAFETY: the relation is open.
        if unsafe { !scratch::is_created_here(relation) } && !is_replicated() {
            // SAFETY: as above; it passed checked_key.
            unsafe { supplied::note(relation, key, &event)? };
        }
        // SAFETY: the relation is open.
        unsafe { under_policy::passed(relation) };
        return Ok(unchanged);
    }
    // SAFETY: the relation is open; a text column of a row that the executor keeps.
    let tenant_bytes = unsafe { rules::tenant(relation, row.value(at::TENANT_ID))? };
    own_tenant::check(tenant_bytes)?;
    row.fill_defaults();
    // SAFETY: as above.
    unsafe { rules::said(relation, |n| row.value(n))? };
    // SAFETY: the relation is open, and passed checked_key.
    let head = match unsafe { head::recall(relation, tenant_bytes) } {
        Some(head) => head,
        None => {
            // SAFETY: the relation is open.
            let place = unsafe { head::place(relation) };
            // A table that nobody else sees yet needs no lock: loading it, or a drill, disturbs no other transaction.
            // SAFETY: the relation is open.
            let alone = unsafe { scratch::is_created_here(relation) };
            let claim = if alone { Claim::default() } else { lock::claim_chain(tenant_bytes) };
            let known = if alone { None } else { shared_heads::take(place, tenant_bytes, claim.chain) };
            match known {
                Some(head) => head,
                // SAFETY: the relation is open; the chain's lock is held, or not needed.
                None => unsafe { head::read(relation, key, row.values[at::TENANT_ID], claim)? },
            }
        }
    };
    // SAFETY: relation open, row taken apart by its descriptor.
    unsafe { append(&mut row, relation, tenant_bytes, head) }
}

/// Places the event after `head`, hashes it, and returns the row to store.
///
/// # Safety
/// `relation` must be open, `row` be of its shape, and the lock of the head's chain be held.
unsafe fn append(
    row: &mut Row,
    relation: pg_sys::Relation,
    tenant: &[u8],
    head: Head,
) -> Result<pg_sys::Datum, Failure> {
    // SAFETY: reads the clock.
    let now = unsafe { GetCurrentTimestamp() };
    let seq = head.seq.checked_add(1).ok_or_else(|| {
        Failure::new(Kind::UnexpectedTable, format!("chain {} ends at the largest seq there is", head.chain))
            .hint("Run audit_findings() for this tenant: that event was not written by zeroauth_audit.")
    })?;
    let salt = Salt::new(random::bytes());
    let event_id = random::uuid_v7(time::unix_micros(now));
    row.set(at::CHAIN, pg_sys::Datum::from(head.chain as i16));
    row.set(at::SEQ, pg_sys::Datum::from(seq));
    row.set(at::RECORDED_AT, pg_sys::Datum::from(now));
    row.set(at::HASH_VERSION, pg_sys::Datum::from(HASH_VERSION));
    if row.value(at::EVENT_ID).is_none() {
        row.set(at::EVENT_ID, pg_sys::Datum::from(event_id.as_ptr()));
    }
    let role = session_role();
    row.set(at::DB_ROLE, role.datum());

    let mut scratch = Scratch::default();
    // SAFETY: the values are those of the row, which the executor keeps until it is stored.
    let (public, private) = unsafe { columns::fields(|n| row.value(n), &mut scratch) };
    let longest = settings::max_details_bytes();
    if let Some(details) = private.details.filter(|details| details.len() > longest) {
        return Err(Failure::new(
            Kind::InvalidEvent,
            format!("details are {} bytes long, more than {longest}", details.len()),
        )
        .hint(
            "Store what is large elsewhere and its digest here, or raise zeroauth_audit.max_details_bytes.",
        ));
    }
    let hash = whole_event_hash(&head.hash, &public, &salt, &private);

    let (salt, prev, hash_value) = (
        ShortVarlena::<17>::new(salt.as_bytes()),
        ShortVarlena::<33>::new(head.hash.as_bytes()),
        ShortVarlena::<33>::new(hash.as_bytes()),
    );
    row.set(at::SALT, salt.datum());
    row.set(at::PREV_HASH, prev.datum());
    row.set(at::EVENT_HASH, hash_value.datum());
    at_commit::watch();
    // SAFETY: open by contract; called once for this row, after which nothing can fail but the forming of the tuple.
    unsafe { head::remember(relation, tenant, Head { chain: head.chain, seq, hash }) };
    lock::appended(tenant, head.chain, seq);
    // SAFETY: open by contract.
    if unsafe { !scratch::is_created_here(relation) } {
        supplied::chained(tenant != OWN_TENANT.as_bytes());
    }
    // SAFETY: open by contract.
    unsafe { under_policy::passed(relation) };
    // SAFETY: values and nulls have an element for every attribute; what they point to is copied now.
    let tuple = unsafe {
        pg_sys::heap_form_tuple((*relation).rd_att, row.values.as_mut_ptr(), row.nulls.as_mut_ptr())
    };
    // SAFETY: just formed.
    unsafe { (*tuple).t_tableOid = (*relation).rd_id };
    Ok(pg_sys::Datum::from(tuple))
}

/// Whether the row may bring its hashes: a superuser does, or the process that applies what a publisher sent. What a trigger of somebody's
/// own table inserts while that process runs it is not what the publisher sent.
///
/// # Safety
/// `relation` must be open.
unsafe fn may_supply(relation: pg_sys::Relation) -> bool {
    // SAFETY: look at the state of this process; the relation is open by contract.
    unsafe {
        if pg_sys::superuser() {
            return true;
        }
        is_replicated()
            || pg_sys::IsLogicalWorker()
                && pg_sys::has_privs_of_role(pg_sys::GetUserId(), (*(*relation).rd_rel).relowner)
    }
}

/// Whether the row is what a publisher sent, and not what a trigger of another table inserts while that is applied.
fn is_replicated() -> bool {
    // SAFETY: looks at the state of this process.
    unsafe { pg_sys::IsLogicalWorker() && versions::trigger_depth() == 1 }
}

/// Accepts a row that brought its hashes, or returns what is wrong with it.
///
/// # Safety
/// `relation` must be open.
unsafe fn check_supplied(row: &Row, relation: pg_sys::Relation) -> Result<(), Failure> {
    let names = |columns: &mut dyn Iterator<Item = usize>| {
        columns.map(|n| COLUMNS[n].0).collect::<Vec<_>>().join(", ")
    };
    // SAFETY: open by contract.
    let trusted = unsafe { may_supply(relation) };
    let missing = |&n: &usize| row.value(n).is_none() && n != at::PRIVATE_HASH && n != at::SALT;
    if !trusted {
        return Err(Failure::new(
            Kind::ServerColumnSupplied,
            format!("the server sets {}", names(&mut row.supplied())),
        )
        .hint(if SERVER_SET.iter().any(missing) {
            "Leave out what the server sets: the column list of INSERT or COPY shall name only the others."
        } else {
            "Restore as a superuser: only one may bring events with their hashes. To add events, name only the other columns."
        }));
    }
    if SERVER_SET.iter().any(missing) {
        return Err(Failure::new(
            Kind::ServerColumnSupplied,
            format!("the row brings {} but not {}", names(&mut row.supplied()), {
                names(&mut SERVER_SET.into_iter().filter(|n| missing(n)))
            }),
        )
        .hint("Leave all of them out to have the event chained, or supply all of them to have it checked."));
    }
    // SAFETY: the values are those of the row.
    let problem = match unsafe { columns::check_event(|n| row.value(n)) } {
        Ok(checked) => match checked.finding {
            None => return Ok(()),
            Some(ContentFinding::Mismatch { recomputed, stored }) => {
                format!("Recorded {}, recomputed {}.", short(&stored), short(&recomputed))
            }
            Some(ContentFinding::Unreadable(why) | ContentFinding::Private(why)) => format!("Reason: {why}."),
        },
        Err(why) => format!("Reason: {why}."),
    };
    Err(Failure::new(Kind::SuppliedRowMismatch, format!("event does not match its hash: {}", place(row)))
        .detail(problem)
        .hint("It was changed after it was written: in the dump, the archive or at the publisher. Load an unchanged copy."))
}

/// The event of a row that brought its hashes.
///
/// # Safety
/// The row must have passed [`check_supplied`].
unsafe fn brought(row: &Row) -> neighbours::Event {
    let number = |n: usize| row.value(n).map_or(0, |datum| datum.value() as i64);
    // SAFETY: byteas of the row.
    let digest = |n: usize| unsafe { columns::digest(row.value(n)) };
    neighbours::Event {
        tenant: row.values[at::TENANT_ID],
        chain: number(at::CHAIN) as i16,
        seq: number(at::SEQ),
        prev: digest(at::PREV_HASH),
        hash: digest(at::EVENT_HASH),
    }
}

/// Whether the very event is stored already. Refuses a row that brought its hashes where the chain does not go through it, or where another
/// event is.
///
/// # Safety
/// `relation` must be open and have passed `checked_key`, which returned `key`; `event` be what [`brought`] gave for the row.
unsafe fn is_stored(
    row: &Row,
    event: &neighbours::Event,
    relation: pg_sys::Relation,
    key: pg_sys::Oid,
) -> Result<bool, Failure> {
    // SAFETY: by contract.
    let misfit = match unsafe { neighbours::stored(relation, key, event)? } {
        Stored::Fitting => return Ok(false),
        Stored::Same => return Ok(true),
        Stored::Misfit(misfit) => misfit,
    };
    let (before, after) = (event.seq - 1, event.seq + 1);
    let what = match misfit {
        Misfit::Place(_) => "another event is there already",
        _ => "event does not fit into its chain",
    };
    Err(Failure::new(Kind::SuppliedRowMismatch, format!("{what}: {}", place(row)))
        .detail(match misfit {
            Misfit::Place(there) => {
                let hash = |hash: Option<zeroauth_audit_core::Digest>| hash.as_ref().map_or_else(|| "none".into(), short);
                format!("The event_hash of the one that is here is {}, and that of the one that comes {}.", hash(there), hash(event.hash))
            }
            Misfit::First => "It is the first event of the chain, and its prev_hash is that of another.".to_owned(),
            Misfit::Before => format!("Its prev_hash is not the event_hash of seq {before}, which is here."),
            Misfit::After => format!("The prev_hash of seq {after}, which is here, is not its event_hash."),
        })
        .hint("It comes from another trail, or one of the two was changed. Load it into a trail of its own, and compare both with a checkpoint."))
}

/// The beginning of a hash: enough to tell it from another.
fn short(hash: &zeroauth_audit_core::Digest) -> String {
    format!("{:.8}..", hash.to_string())
}

fn place(row: &Row) -> String {
    let number = |n: usize| row.value(n).map_or(0, |datum| datum.value() as i64);
    let tenant = row.value(at::TENANT_ID).map_or_else(String::new, |tenant| {
        // SAFETY: a text column.
        String::from_utf8_lossy(unsafe { varlena::bytes(tenant) }).into_owned()
    });
    format!("tenant {tenant:?}, chain {}, seq {}", number(at::CHAIN) as i16, number(at::SEQ))
}

/// The role that logged in: neither SET ROLE nor a SECURITY DEFINER function changes it.
fn session_role() -> ShortVarlena<64> {
    thread_local! {
        static LAST: RefCell<(u32, pg_sys::Oid, [u8; 64], usize)> =
            const { RefCell::new((0, pg_sys::Oid::INVALID, [0; 64], 0)) };
    }
    // SAFETY: reads session state of this process.
    let role = unsafe { pg_sys::GetSessionUserId() };
    let transaction = crate::pg::versions::local_transaction();
    LAST.with_borrow_mut(|(known_in, known, name, length)| {
        // A role may be renamed, so its name is looked up again in each transaction.
        if (*known_in, *known) != (transaction, role) {
            // SAFETY: returns a palloc'ed, NUL-terminated name, or raises for a role that is gone.
            let found = unsafe { std::ffi::CStr::from_ptr(pg_sys::GetUserNameFromId(role, false)) };
            *length = found.to_bytes().len().min(63);
            name[..*length].copy_from_slice(&found.to_bytes()[..*length]);
            (*known_in, *known) = (transaction, role);
        }
        ShortVarlena::new(&name[..*length])
    })
}

const _: () = assert!(COUNT <= MOST_COLUMNS);

sql_function!(zeroauth_audit_chain_event, pg_finfo_zeroauth_audit_chain_event, chain_event);
