//! How PostgreSQL calls the functions of this library (calling convention version 1).
//!
//! Functions are declared in `sql/schema`, not generated: a DBA reads there exactly what is installed. Each body returns
//! a `Result`; its error is raised here, once all Rust frames are gone.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::pgrx_extern_c_guard;

use crate::pg::error::{Failure, Kind, throw, without_memory_errors};
use crate::pg::out_of_memory;
use crate::pg::varlena;

/// The arguments of one call.
pub struct Arguments {
    fcinfo: pg_sys::FunctionCallInfo,
}

impl Arguments {
    /// The raw call information, for what has no safe form.
    pub fn raw(&self) -> pg_sys::FunctionCallInfo {
        self.fcinfo
    }

    /// Argument `n` from 0, `None` when it is NULL.
    #[inline]
    pub fn datum(&self, n: usize) -> Option<pg_sys::Datum> {
        // SAFETY: PostgreSQL passes as many arguments as the declaration in sql/schema has; every caller of this
        // names one of them.
        let argument = unsafe { *(*self.fcinfo).args.as_ptr().add(n) };
        (!argument.isnull).then_some(argument.value)
    }

    /// Argument `n` as an integer of four bytes.
    #[inline]
    pub fn int4(&self, n: usize) -> Option<i32> {
        self.datum(n).map(|datum| datum.value() as i32)
    }

    /// Argument `n` as an integer of eight bytes.
    #[inline]
    pub fn int8(&self, n: usize) -> Option<i64> {
        self.datum(n).map(|datum| datum.value() as i64)
    }

    /// Argument `n`, declared as text.
    pub fn text(&self, n: usize) -> Result<Option<String>, Failure> {
        // SAFETY: declared as text, so a valid one.
        let bytes = self.datum(n).map(|datum| unsafe { varlena::bytes(datum) });
        bytes.map(out_of_memory::text).transpose()
    }

    /// Argument `n`, declared as jsonb, in its text form.
    pub fn json(&self, n: usize) -> Result<Option<String>, Failure> {
        let Some(stored) = self.datum(n) else { return Ok(None) };
        // SAFETY: declared as jsonb; the output function returns a palloc'ed, NUL-terminated string.
        let out = unsafe { pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), stored) };
        // SAFETY: as above.
        let text = unsafe { std::ffi::CStr::from_ptr(out) };
        out_of_memory::text(text.to_bytes()).map(Some)
    }

    /// Says that the result is NULL.
    pub fn return_null(&self) -> pg_sys::Datum {
        // SAFETY: fcinfo is live for the length of the call.
        unsafe { (*self.fcinfo).isnull = true };
        pg_sys::Datum::from(0)
    }
}

/// When a trigger function may be fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fires {
    /// BEFORE .. FOR EACH ROW: there is a row.
    BeforeRow,
    /// INSTEAD OF .. FOR EACH ROW, of a view: there is a row.
    InsteadOfRow,
    /// BEFORE .. FOR EACH STATEMENT: there is none.
    BeforeStatement,
    /// Whenever; the function looks at no row.
    Whenever,
}

impl Fires {
    /// The bits of `tg_event` that it stands for.
    const fn event(self) -> Option<u32> {
        match self {
            Self::BeforeRow => Some(pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_BEFORE),
            Self::InsteadOfRow => Some(pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_INSTEAD),
            Self::BeforeStatement => Some(pg_sys::TRIGGER_EVENT_BEFORE),
            Self::Whenever => None,
        }
    }
}

/// The trigger's part of the call. Whoever may call the function can make a trigger of it that fires otherwise, without a row.
pub fn trigger_data(arguments: &Arguments, fires: Fires) -> Result<&pg_sys::TriggerData, Failure> {
    // SAFETY: context is NULL or a node.
    let context = unsafe { (*arguments.raw()).context };
    // SAFETY: a node begins with its tag.
    if context.is_null() || unsafe { (*context).type_ } != pg_sys::NodeTag::T_TriggerData {
        return Err(Failure::new(Kind::InvalidArgument, "this function can only be called as a trigger")
            .hint("It is called by the triggers of audit_events."));
    }
    // SAFETY: the tag says so; lives as long as the call.
    let trigger = unsafe { &*context.cast::<pg_sys::TriggerData>() };
    let event = trigger.tg_event & (pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_TIMINGMASK);
    if fires.event().is_some_and(|expected| expected != event) {
        return Err(wrong_trigger());
    }
    Ok(trigger)
}

/// What a trigger gets that fires when its function cannot be called.
#[cold]
pub fn wrong_trigger() -> Failure {
    Failure::new(Kind::InvalidArgument, "this trigger function is fired by another event than it is for")
        .hint("Drop the trigger: those of audit_events are made by CREATE EXTENSION.")
}

/// A result of type jsonb.
pub fn jsonb(result: &impl serde::Serialize) -> Result<pg_sys::Datum, Failure> {
    let unprintable = || {
        Failure::new(Kind::UnexpectedTable, "a result is no JSON").hint("It is for the extension's own jobs.")
    };
    let json = serde_json::to_string(result).map_err(|_| unprintable())?;
    let json = std::ffi::CString::new(json).map_err(|_| unprintable())?;
    // SAFETY: jsonb_in takes one cstring, and copies what it needs of it.
    let stored = unsafe {
        pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(pg_sys::Datum::from(json.as_ptr()))])
    };
    stored.ok_or_else(unprintable)
}

/// A result of type text.
pub fn text(result: &str) -> pg_sys::Datum {
    pg_sys::Datum::from(pgrx::varlena::rust_str_to_text_p(result).into_pg())
}

/// Runs `body`; its error becomes a PostgreSQL ERROR.
///
/// # Safety
/// To be called from a function that PostgreSQL calls, with nothing that has a destructor in its frame.
#[inline]
pub unsafe fn enter<T>(
    fcinfo: pg_sys::FunctionCallInfo,
    body: impl FnOnce(&Arguments) -> Result<T, Failure>,
) -> T {
    // SAFETY: the only frames above are PostgreSQL's; the closure owns nothing with a destructor.
    unsafe {
        guarded(|| {
            if out_of_memory::take_reserve() {
                body(&Arguments { fcinfo })
            } else {
                Err(out_of_memory::failure())
            }
        })
    }
}

/// Runs `body`, for a function or a hook; its error becomes a PostgreSQL ERROR.
///
/// # Safety
/// The frames above must be PostgreSQL's, or hold nothing with a destructor; `body` neither.
#[inline]
pub unsafe fn guarded<T>(body: impl FnOnce() -> Result<T, Failure>) -> T {
    // SAFETY: state of this process.
    let previous = unsafe { pg_sys::error_context_stack };
    let mut context = pg_sys::ErrorContextCallback {
        previous,
        callback: Some(out_of_memory::on_error),
        arg: std::ptr::null_mut(),
    };
    // SAFETY: taken off below, or by PostgreSQL when an error leaves this frame.
    unsafe { pg_sys::error_context_stack = &raw mut context };
    // SAFETY: by contract.
    let result = unsafe { pgrx_extern_c_guard(|| without_memory_errors(body)) };
    // SAFETY: the stack as it was.
    unsafe { pg_sys::error_context_stack = previous };
    match result {
        Ok(value) => value,
        // SAFETY: the guarded frames are gone, and `failure` is moved into `throw`, which drops it first.
        Err(failure) => unsafe { throw(failure) },
    }
}

/// Exports `$function` to SQL under `$symbol`, with the record of its calling convention. The function enters pgrx's guard
/// by itself, with [`enter`], and may leave it for calls that must be able to raise any error.
macro_rules! raw_sql_function {
    ($symbol:ident, $info:ident, $function:expr) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $symbol(
            fcinfo: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            // SAFETY: called by PostgreSQL's function manager.
            unsafe { $function(fcinfo) }
        }
    };
}
pub(crate) use raw_sql_function;

/// Exports `$body` to SQL under `$symbol`: all of it runs inside the guard.
macro_rules! sql_function {
    ($symbol:ident, $info:ident, $body:path) => {
        $crate::pg::call::raw_sql_function!($symbol, $info, |fcinfo| $crate::pg::call::enter(fcinfo, $body));
    };
}
pub(crate) use sql_function;
