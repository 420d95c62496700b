//! Looks at every statement that writes, when the executor has opened what it writes to: the guards of the trail do not depend on triggers,
//! which a superuser can make PostgreSQL forget by one UPDATE of a catalog.
//!
//! - UPDATE and DELETE of the trail are refused as by its triggers; an upsert is refused before the privileges are looked at, so that its
//!   hint reaches who has none.
//! - INSERT into the trail is refused while its chaining trigger would not fire.
//! - A table of the internal schema is written by the extension's functions alone; who writes by hand to one that holds what people set is
//!   noted.
//! - Whatever is written to a system catalog is noted.
//!
//! COPY FROM has no plan: it comes by the permission hook, and only while a COPY runs. TRUNCATE comes by the object access hook
//! ([`crate::guard::ddl`]). What logical replication applies passes none of these hooks, only triggers.
//!
//! A statement that writes nothing costs one comparison, one that writes to other tables a few for each of them.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::sync::OnceLock;

use pgrx::pg_sys;

use crate::chain::at_commit;
use crate::chain::head;
use crate::chain::shared_heads;
use crate::guard::refuse_if;
use crate::guard::row_changes::{self, Attempt};
use crate::guard::state_tables;
use crate::pg::error::{Failure, Kind};
use crate::pg::list::nodes;
use crate::pg::settings;
use crate::pg::versions;
use crate::shared::privileged_use::{self, What};
use crate::trail::identity::{self, Is};
use crate::trail::membership::trail_name;

static PREVIOUS_START: OnceLock<pg_sys::ExecutorStart_hook_type> = OnceLock::new();

thread_local! {
    /// Set by the utility hook. Stays set when an error leaves a COPY: then others are looked at twice, which changes nothing.
    static COPYING: Cell<bool> = const { Cell::new(false) };
}

/// Puts our hooks in front of those already there.
pub fn install_hooks() {
    // SAFETY: _PG_init runs in the only thread.
    unsafe {
        if PREVIOUS_START.set(pg_sys::ExecutorStart_hook).is_ok() {
            pg_sys::ExecutorStart_hook = Some(start);
        }
        versions::hook_permissions(copied_into);
    }
}

/// COPY FROM begins, or is over.
pub fn copying(now: bool) {
    COPYING.set(now);
}

// Called without pgrx's guard on purpose: any error of the executor must pass as it is.
unsafe extern "C-unwind" {
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
}

unsafe extern "C-unwind" fn start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: PostgreSQL passes a live plan.
    let plan = unsafe { (*query).plannedstmt };
    // SAFETY: as above.
    let writes = unsafe { (*plan).commandType != pg_sys::CmdType::CMD_SELECT || (*plan).hasModifyingCTE }
        && flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as c_int == 0;
    if writes {
        // SAFETY: as above; nothing with a destructor is here.
        unsafe { upserts(plan) };
    }
    let next = PREVIOUS_START.get().copied().flatten().unwrap_or(standard_ExecutorStart);
    // SAFETY: the next hook, or the standard function, with our own arguments.
    unsafe { next(query, flags) };
    if writes {
        // SAFETY: the executor has opened the relations that the statement writes to.
        unsafe { opened(query) };
    }
}

/// What a statement does to the rows of one relation.
#[derive(Clone, Copy, Default)]
pub struct Writes {
    /// Whether it adds rows.
    pub inserts: bool,
    /// How it changes others: `UPDATE` or `DELETE`.
    pub changes: Option<&'static str>,
    /// Whether it would rather add them: an upsert, or a MERGE.
    pub upserts: bool,
}

impl Writes {
    /// # Safety
    /// `plan` must be a live ModifyTable node, `n` be one of its relations.
    unsafe fn of(plan: *const pg_sys::ModifyTable, n: usize) -> Self {
        use pg_sys::CmdType as command;
        let change = |command| match command {
            command::CMD_UPDATE => Some("UPDATE"),
            command::CMD_DELETE => Some("DELETE"),
            _ => None,
        };
        // SAFETY: by contract.
        let plan = unsafe { &*plan };
        match plan.operation {
            command::CMD_INSERT => {
                let upserts = plan.onConflictAction == pg_sys::OnConflictAction::ONCONFLICT_UPDATE;
                Self { inserts: true, changes: upserts.then_some("UPDATE"), upserts }
            }
            command::CMD_MERGE => {
                let mut writes = Self { upserts: true, ..Self::default() };
                // SAFETY: a list of lists of actions, one for each relation.
                let actions = unsafe { nodes(plan.mergeActionLists) }.nth(n).unwrap_or(std::ptr::null_mut());
                // SAFETY: as above.
                for action in unsafe { nodes(actions.cast()) } {
                    // SAFETY: as above.
                    let command = unsafe { (*action.cast::<pg_sys::MergeAction>()).commandType };
                    writes.inserts |= command == command::CMD_INSERT;
                    writes.changes = writes.changes.or(change(command));
                }
                writes
            }
            other => Self { changes: change(other), ..Self::default() },
        }
    }
}

/// Refuses an upsert of the trail, before anything else is found wrong with it.
///
/// # Safety
/// `plan` must be live, its relations be locked.
unsafe fn upserts(plan: *mut pg_sys::PlannedStmt) {
    // SAFETY: by contract; parts of the plan that are not needed are NULL.
    unsafe {
        upsert((*plan).planTree, plan);
        if (*plan).hasModifyingCTE {
            for part in nodes((*plan).subplans) {
                upsert(part.cast(), plan);
            }
        }
    }
}

/// # Safety
/// As for [`upserts`]; `node` must be NULL or a node of the plan.
unsafe fn upsert(node: *mut pg_sys::Plan, plan: *mut pg_sys::PlannedStmt) {
    // SAFETY: a node begins with its tag.
    if node.is_null() || unsafe { (*node).type_ } != pg_sys::NodeTag::T_ModifyTable {
        return;
    }
    let node = node.cast::<pg_sys::ModifyTable>();
    // SAFETY: the tag says so.
    let writes = unsafe { Writes::of(node, 0) };
    if !writes.upserts || writes.changes.is_none() || settings::maintenance() {
        return;
    }
    // SAFETY: a list of numbers of relations in the statement's table of them, from 1.
    let relation = unsafe {
        let first = (*(*(*node).resultRelations).elements).int_value;
        nodes((*plan).rtable).nth(usize::try_from(first).unwrap_or(1) - 1)
    };
    let Some(relation) = relation else { return };
    // SAFETY: an entry of that table.
    let relation = unsafe { (*relation.cast::<pg_sys::RangeTblEntry>()).relid };
    // SAFETY: by contract; nothing with a destructor is here.
    unsafe { refuse_if(|| with_open(relation, |relation| refuse_upsert(relation, writes))) };
}

/// # Safety
/// `relation` must be open.
unsafe fn refuse_upsert(relation: pg_sys::Relation, writes: Writes) -> Result<(), Failure> {
    // SAFETY: by contract.
    if unsafe { identity::may_matter(relation) && identity::of(relation) == Is::Trail } {
        // SAFETY: as above.
        return unsafe { change_of_trail(relation, writes) };
    }
    Ok(())
}

/// Opens a relation that the statement has locked.
///
/// # Safety
/// In a transaction; `look` must not keep the relation.
pub unsafe fn with_open(
    relation: pg_sys::Oid,
    look: impl FnOnce(pg_sys::Relation) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // SAFETY: NULL for none; closed below, or by the error.
    unsafe {
        let open = pg_sys::RelationIdGetRelation(relation);
        if open.is_null() {
            return Ok(());
        }
        let found = look(open);
        pg_sys::RelationClose(open);
        found
    }
}

/// # Safety
/// ExecutorStart must have returned for `query`.
unsafe fn opened(query: *mut pg_sys::QueryDesc) {
    // SAFETY: by contract: the tree of states is there, and the relations that it writes to are open.
    unsafe {
        let root = (*query).planstate;
        if !root.is_null() && (*root).type_ == pg_sys::NodeTag::T_ModifyTableState {
            modified(root.cast());
        }
        for other in nodes((*(*query).estate).es_auxmodifytables) {
            if other.cast::<pg_sys::PlanState>() != root {
                modified(other.cast());
            }
        }
    }
}

/// # Safety
/// `state` must be a live ModifyTableState.
unsafe fn modified(state: *mut pg_sys::ModifyTableState) {
    // SAFETY: by contract: an array of as many relations, each open.
    unsafe {
        for n in 0..usize::try_from((*state).mt_nrels).unwrap_or(0) {
            let relation = (*(*state).resultRelInfo.add(n)).ri_RelationDesc;
            if identity::may_matter(relation) {
                let writes = Writes::of((*state).ps.plan.cast(), n);
                refuse_if(|| check(relation, writes));
            }
        }
    }
}

/// Called by the permission hook.
unsafe fn copied_into(relation: pg_sys::Oid) {
    if COPYING.get() {
        // SAFETY: COPY has locked its table; nothing with a destructor is here.
        unsafe { refuse_if(|| with_open(relation, |relation| check_copy(relation))) };
    }
}

/// # Safety
/// `relation` must be open.
unsafe fn check_copy(relation: pg_sys::Relation) -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe {
        if !identity::may_matter(relation) {
            return Ok(());
        }
        let is = identity::of(relation);
        if is == Is::State && state_tables::takes_a_dump(relation)
            || is == Is::Settings && state_tables::may_be_restored()
        {
            return Ok(());
        }
        check(relation, Writes { inserts: true, ..Writes::default() })
    }
}

/// # Safety
/// `relation` must be open.
unsafe fn check(relation: pg_sys::Relation, writes: Writes) -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe {
        match identity::of(relation) {
            Is::Trail => {
                change_of_trail(relation, writes)?;
                insert_into_trail(relation, writes)
            }
            Is::State => state_tables::check(relation, writes.changes.unwrap_or("INSERT")),
            Is::Settings => {
                state_tables::note_settings(relation);
                Ok(())
            }
            Is::Catalog => {
                privileged_use::note_object(What::CatalogWritten, (*relation).rd_id);
                Ok(())
            }
            Is::Other => Ok(()),
        }
    }
}

/// TRUNCATE.
///
/// # Safety
/// `relation` must be open.
pub unsafe fn check_truncate(relation: pg_sys::Relation) -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe { check(relation, Writes { changes: Some("TRUNCATE"), ..Writes::default() }) }
}

/// # Safety
/// `relation` must be open, and the trail.
unsafe fn change_of_trail(relation: pg_sys::Relation, writes: Writes) -> Result<(), Failure> {
    let Some(operation) = writes.changes else { return Ok(()) };
    // SAFETY: by contract.
    let name = unsafe {
        privileged_use::note_replica(relation, What::ReplicaChange);
        trail_name((*relation).rd_id)
    };
    if !settings::maintenance() {
        Attempt::log("change_refused", operation, &name);
        return Err(row_changes::refused(operation, writes.upserts));
    }
    // SAFETY: by contract.
    if !unsafe { fires(relation, c"zeroauth_audit_refuse_statement", c"refuse_statement") } {
        // SAFETY: as above.
        unsafe { unguarded(relation, operation, &name) };
    }
    Ok(())
}

/// # Safety
/// `relation` must be open, and the trail.
unsafe fn insert_into_trail(relation: pg_sys::Relation, writes: Writes) -> Result<(), Failure> {
    // SAFETY: by contract.
    if !writes.inserts || unsafe { fires(relation, CHAINING, identity::CHAIN_FUNCTION) } {
        return Ok(());
    }
    // SAFETY: as above.
    let name = trail_name(unsafe { (*relation).rd_id });
    if settings::maintenance() {
        // SAFETY: as above.
        unsafe { unguarded(relation, "INSERT", &name) };
        return Ok(());
    }
    Attempt::log("change_refused", "INSERT", &name);
    let message = format!("the trigger {} of audit_events does not fire", CHAINING.to_string_lossy());
    Err(Failure::new(Kind::UnexpectedTable, message)
        .detail("No event is stored that is not chained.")
        .hint("SELECT * FROM audit_verify_installation() names what is not as installed. A superuser puts it back with zeroauth_audit.maintenance on."))
}

/// Under maintenance something passes that no trigger sees: what the trigger would have done.
///
/// # Safety
/// `relation` must be open.
unsafe fn unguarded(relation: pg_sys::Relation, operation: &str, name: &str) {
    // SAFETY: by contract.
    unsafe {
        privileged_use::note_on(relation, What::MaintenanceChange);
        at_commit::watch();
        shared_heads::unlocked_writer_begins(head::place(relation));
    }
    Attempt::log("change_allowed", operation, name);
}

const CHAINING: &CStr = c"zzz_zeroauth_audit_chain";

/// Whether the trigger called so fires always, for every row or statement, and calls the function of the internal schema that it is for.
///
/// # Safety
/// `relation` must be open.
unsafe fn fires(relation: pg_sys::Relation, name: &CStr, function: &CStr) -> bool {
    // SAFETY: by contract; PostgreSQL keeps no triggers where the table's row in pg_class says that there are none.
    unsafe {
        let all = (*relation).trigdesc;
        if all.is_null() {
            return false;
        }
        let kind = if name == CHAINING { pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_ROW } else { 0 }
            | pg_sys::TRIGGER_TYPE_BEFORE;
        (0..usize::try_from((*all).numtriggers).unwrap_or(0)).any(|n| {
            let one = &*(*all).triggers.add(n);
            CStr::from_ptr(one.tgname) == name
                && one.tgenabled as u8 == b'A'
                && one.tgqual.is_null()
                && one.tgnattr == 0
                && one.tgtype as u32 & kind == kind
                && identity::is_internal_function(one.tgfoid, function)
        })
    }
}
