//! Refuses INSERT, UPDATE and DELETE of the views that show what the server does, with the call that does what was meant.
//!
//! One trigger a view. Its arguments are a column that tells rows apart, and what to do instead of INSERT, UPDATE and DELETE, with
//! `%` for that column's value in the row that was meant.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::call::{Arguments, Fires, sql_function, trigger_data};
use crate::pg::error::{Failure, Kind};

fn refuse_edit(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let trigger = trigger_data(arguments, Fires::InsteadOfRow)?;
    let place = match trigger.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
        pg_sys::TRIGGER_EVENT_UPDATE => 2,
        pg_sys::TRIGGER_EVENT_DELETE => 3,
        _ => 1,
    };
    let hint = argument(trigger, place).replace('%', &literal(trigger, &argument(trigger, 0)));
    // SAFETY: the executor holds the relation open while its triggers run; its name is NUL-terminated.
    let view = unsafe { CStr::from_ptr((*(*trigger.tg_relation).rd_rel).relname.data.as_ptr()) };
    Err(Failure::new(Kind::EditRefused, format!("{} is not edited directly", view.to_string_lossy()))
        .detail("It shows what the server does.")
        .hint(hint))
}

/// Argument `n` of the trigger, empty when there is none.
fn argument(trigger: &pg_sys::TriggerData, n: usize) -> String {
    // SAFETY: the trigger's definition lives as long as the call, and has as many arguments as it says.
    unsafe {
        let definition = &*trigger.tg_trigger;
        if usize::try_from(definition.tgnargs).unwrap_or(0) <= n {
            return String::new();
        }
        CStr::from_ptr(*definition.tgargs.add(n)).to_string_lossy().into_owned()
    }
}

/// A column of the row that was meant, as SQL would have it: the old row, of an INSERT the new one.
fn literal(trigger: &pg_sys::TriggerData, column: &str) -> String {
    let column = std::ffi::CString::new(column).unwrap_or_default();
    // SAFETY: an INSTEAD OF trigger has a row in `tg_trigtuple`, of the type of its view; these functions only read it, and return
    // palloc'ed text or NULL.
    unsafe {
        let described = (*trigger.tg_relation).rd_att;
        let number = pg_sys::SPI_fnumber(described, column.as_ptr());
        let value = pg_sys::SPI_getvalue(trigger.tg_trigtuple, described, number);
        if value.is_null() {
            return "NULL".to_owned();
        }
        let is_text = pg_sys::SPI_gettypeid(described, number) == pg_sys::TEXTOID;
        let shown = if is_text { pg_sys::quote_literal_cstr(value) } else { value };
        CStr::from_ptr(shown).to_string_lossy().into_owned()
    }
}

sql_function!(zeroauth_audit_refuse_edit, pg_finfo_zeroauth_audit_refuse_edit, refuse_edit);
