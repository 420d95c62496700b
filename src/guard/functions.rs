//! Keeps account of the extension's functions that run: see [`crate::trail::own_functions`].
//!
//! PostgreSQL calls the hook for functions that are SECURITY DEFINER or have settings of their own, of whomever they are; whether one is a
//! member of the extension is looked up once in each process, until some function changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;

use pgrx::pg_sys;

use crate::guard::refuse_if;
use crate::trail::identity;
use crate::trail::membership::is_member;
use crate::trail::own_functions;

static PREVIOUS: OnceLock<pg_sys::fmgr_hook_type> = OnceLock::new();

thread_local!(static OURS: RefCell<HashMap<u32, bool>> = RefCell::default());

/// Puts our hook in front of those already there.
pub fn install_hook() {
    // SAFETY: _PG_init runs in the only thread; the callback only forgets, and never goes away.
    unsafe {
        if PREVIOUS.set(pg_sys::fmgr_hook).is_ok() {
            pg_sys::fmgr_hook = Some(function);
            let functions = pg_sys::SysCacheIdentifier::PROCOID as i32;
            pg_sys::CacheRegisterSyscacheCallback(functions, Some(changed), pg_sys::Datum::from(0));
        }
    }
}

unsafe extern "C-unwind" fn changed(_: pg_sys::Datum, _: i32, _: u32) {
    OURS.with_borrow_mut(HashMap::clear);
}

unsafe extern "C-unwind" fn function(
    event: pg_sys::FmgrHookEventType::Type,
    called: *mut pg_sys::FmgrInfo,
    argument: *mut pg_sys::Datum,
) {
    use pg_sys::FmgrHookEventType::FHET_START;
    if let Some(Some(next)) = PREVIOUS.get() {
        // SAFETY: the next hook, with our own arguments.
        unsafe { next(event, called, argument) };
    }
    // SAFETY: PostgreSQL passes the look-up of the called function.
    let oid = unsafe { (*called).fn_oid };
    if event == FHET_START {
        let known = OURS.with_borrow(|ours| ours.get(&oid.to_u32()).copied());
        if known == Some(false) {
            return;
        }
        // SAFETY: called inside of a transaction; nothing with a destructor is here.
        unsafe {
            refuse_if(|| {
                if known.unwrap_or_else(|| look_up(oid)) {
                    own_functions::begin(oid);
                }
                Ok(())
            });
        }
    } else {
        own_functions::end(oid);
    }
}

fn look_up(function: pg_sys::Oid) -> bool {
    let ours = identity::internal_schema().is_some() && is_member(pg_sys::ProcedureRelationId, function);
    OURS.with_borrow_mut(|all| all.insert(function.to_u32(), ours));
    ours
}
