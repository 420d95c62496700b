//! Refuses UPDATE, DELETE and TRUNCATE of `audit_events`: two triggers that fire for every role, in replica role too.
//!
//! The statement trigger catches the attempt before any row is looked for, and writes one line to the server log; the
//! row trigger is for what fires no statement triggers (logical replication).

use pgrx::pg_sys;
use serde::Serialize;

use crate::chain::at_commit;
use crate::chain::head;
use crate::chain::shared_heads;
use crate::pg::call::{Arguments, Fires, sql_function, trigger_data};
use crate::pg::error::{Failure, Kind, log_line};
use crate::pg::settings;
use crate::shared::privileged_use::{self, What};
use crate::trail::membership::trail_name;
use crate::trail::{columns, rules};

/// One line of the server log about an attempt on the trail.
#[derive(Serialize)]
pub struct Attempt<'a> {
    /// `change_refused`, `change_allowed`, `ddl_refused` or `ddl_allowed`.
    pub event: &'static str,
    /// What was tried: `UPDATE`, `ALTER TABLE`, ..
    pub operation: &'a str,
    /// On what.
    pub object: &'a str,
    role: String,
    database: String,
}

impl<'a> Attempt<'a> {
    /// Writes the line, for the server log only.
    pub fn log(event: &'static str, operation: &'a str, object: &'a str) {
        let attempt = Attempt { event, operation, object, role: role_name(), database: database_name() };
        if let Ok(line) = serde_json::to_string(&attempt) {
            log_line(&format!("zeroauth_audit: {line}"));
        }
    }
}

fn role_name() -> String {
    // SAFETY: palloc'ed name of the logged-in role, NULL if it is gone.
    unsafe { owned_name(pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true)) }
}

fn database_name() -> String {
    // SAFETY: palloc'ed name, NULL if it is gone; MyDatabaseId is set in every session.
    unsafe { owned_name(pg_sys::get_database_name(pg_sys::MyDatabaseId)) }
}

/// # Safety
/// `name` must be NULL or NUL-terminated.
unsafe fn owned_name(name: *const std::ffi::c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: by contract.
    unsafe { std::ffi::CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

fn operation(event: u32) -> &'static str {
    match event & pg_sys::TRIGGER_EVENT_OPMASK {
        pg_sys::TRIGGER_EVENT_UPDATE => "UPDATE",
        pg_sys::TRIGGER_EVENT_DELETE => "DELETE",
        pg_sys::TRIGGER_EVENT_TRUNCATE => "TRUNCATE",
        _ => "INSERT",
    }
}

fn object(trigger: &pg_sys::TriggerData) -> String {
    // SAFETY: the executor holds the relation open while its triggers run.
    trail_name(unsafe { (*trigger.tg_relation).rd_id })
}

/// What a statement gets that changes events: `upserts` if it would rather have added some.
pub fn refused(operation: &str, upserts: bool) -> Failure {
    Failure::new(Kind::ChangeRefused, format!("{operation} of audit_events is refused"))
        .detail("Events can only be added. The attempt is in the server log.")
        .hint(if upserts {
            "Use ON CONFLICT DO NOTHING."
        } else if settings::may_open_maintenance() {
            "For repairs: SET zeroauth_audit.maintenance = on. It is an alert."
        } else {
            "Record a correcting event."
        })
}

fn refuse_statement(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let trigger = trigger_data(arguments, Fires::BeforeStatement)?;
    let operation = operation(trigger.tg_event);
    // SAFETY: the executor holds the relation open while its triggers run.
    unsafe { privileged_use::note_replica(trigger.tg_relation, What::ReplicaChange) };
    if settings::maintenance() {
        // SAFETY: as above.
        unsafe { privileged_use::note_on(trigger.tg_relation, What::MaintenanceChange) };
        at_commit::watch();
        // SAFETY: the executor holds the relation open while its triggers run.
        shared_heads::unlocked_writer_begins(unsafe { head::place(trigger.tg_relation) });
        Attempt::log("change_allowed", operation, &object(trigger));
        return Ok(pg_sys::Datum::null());
    }
    Attempt::log("change_refused", operation, &object(trigger));
    Err(refused(operation, false))
}

fn refuse_row(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let trigger = trigger_data(arguments, Fires::BeforeRow)?;
    let operation = operation(trigger.tg_event);
    // SAFETY: the executor holds the relation open while its triggers run.
    unsafe { privileged_use::note_replica(trigger.tg_relation, What::ReplicaChange) };
    if !settings::maintenance() {
        Attempt::log("change_refused", operation, &object(trigger));
        return Err(refused(operation, false));
    }
    at_commit::watch();
    // SAFETY: as for statements.
    shared_heads::unlocked_writer_begins(unsafe { head::place(trigger.tg_relation) });
    // SAFETY: as above.
    unsafe { privileged_use::note_on(trigger.tg_relation, What::RowChanged) };
    if operation != "UPDATE" {
        return Ok(pg_sys::Datum::from(trigger.tg_trigtuple));
    }
    // SAFETY: the executor holds relation and row while its triggers run.
    unsafe { check_repaired(trigger.tg_relation, trigger.tg_newtuple)? };
    Ok(pg_sys::Datum::from(trigger.tg_newtuple))
}

/// What a repair leaves behind must still be an event: there are no CHECK constraints ([`rules`]).
///
/// # Safety
/// `relation` must be open, `tuple` be a row of it.
unsafe fn check_repaired(relation: pg_sys::Relation, tuple: pg_sys::HeapTuple) -> Result<(), Failure> {
    // SAFETY: live with the relation.
    let desc = unsafe { (*relation).rd_att };
    // SAFETY: as above.
    unsafe { columns::check_layout(desc)? };
    // SAFETY: as above.
    let count = unsafe { (*desc).natts } as usize;
    let (mut values, mut nulls) = (vec![pg_sys::Datum::null(); count], vec![true; count]);
    // SAFETY: the vectors have room for every attribute.
    unsafe { pg_sys::heap_deform_tuple(tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr()) };
    // SAFETY: the values are those of the row, of the types that check_layout found.
    unsafe { rules::stored(relation, |n| (!nulls[n]).then_some(values[n])) }
}

sql_function!(zeroauth_audit_refuse_statement, pg_finfo_zeroauth_audit_refuse_statement, refuse_statement);
sql_function!(zeroauth_audit_refuse_row, pg_finfo_zeroauth_audit_refuse_row, refuse_row);
