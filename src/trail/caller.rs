//! Who called, and what is done as the extension's owner for it.
//!
//! A function that shows no more than its caller may read must look at the caller before anything is done as the owner; SECURITY
//! DEFINER forgets the caller. Such a function is declared SECURITY INVOKER, and either becomes the owner itself ([`AsOwner`]) or
//! hands the call over to a SECURITY DEFINER function of the internal schema ([`hand_over`]), to which nobody but the owner has any
//! right.

use std::ffi::{CStr, c_int};

use pgrx::pg_sys;

use crate::pg::call::{Arguments, enter};
use crate::pg::error::{Failure, Kind};
use crate::trail::columns::{COLUMNS, at};
use crate::trail::membership::{INTERNAL, extension_row};

/// The private fields, as places among the columns.
const PRIVATE: std::ops::Range<usize> = at::ACTOR_TYPE..at::SALT;

/// The role whose rights count in what is called now.
#[derive(Clone, Copy)]
pub struct Caller(pg_sys::Oid);

impl Caller {
    /// The current role. To be asked before anything is done as the owner.
    pub fn now() -> Self {
        // SAFETY: state of this process.
        Self(unsafe { pg_sys::GetUserId() })
    }

    /// Its oid.
    pub const fn oid(self) -> pg_sys::Oid {
        self.0
    }

    /// Its name.
    pub fn name(self) -> String {
        // SAFETY: a palloc'ed, NUL-terminated name, NULL if the role is gone.
        let name = unsafe { pg_sys::GetUserNameFromId(self.0, true) };
        if name.is_null() {
            return format!("role {}", self.0.to_u32());
        }
        // SAFETY: as above.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    /// Whether it may SELECT every column of `table` in this range of places.
    fn may_select(self, table: pg_sys::Oid, places: std::ops::Range<usize>) -> bool {
        let select = pg_sys::ACL_SELECT as pg_sys::AclMode;
        let ok = pg_sys::AclResult::ACLCHECK_OK;
        // SAFETY: catalog look-ups by oid and number, on the whole table and on one column.
        unsafe {
            pg_sys::pg_class_aclcheck(table, self.0, select) == ok
                || places
                    .into_iter()
                    .all(|place| pg_sys::pg_attribute_aclcheck(table, place as i16 + 1, self.0, select) == ok)
        }
    }

    /// An error when row-level security hides rows of the trail from it.
    pub fn require_no_policy(self, table: pg_sys::Oid) -> Result<(), Failure> {
        // SAFETY: catalog look-ups by oid; does not raise.
        let rls = unsafe { pg_sys::check_enable_rls(table, self.0, true) };
        if rls as u32 != pg_sys::CheckEnableRlsResult::RLS_ENABLED {
            return Ok(());
        }
        let message = format!(
            "could not check: row-level security hides rows of audit_events from \"{}\"",
            self.name()
        );
        Err(Failure::new(Kind::CouldNotCheck, message)
            .detail("This is neither \"ok\" nor \"tampered\".")
            .hint("Verify as a role to which no policy applies."))
    }

    /// An error when it may not read the table at all.
    pub fn require_select(self, table: pg_sys::Oid) -> Result<(), Failure> {
        if self.may_select(table, 0..COLUMNS.len()) {
            return Ok(());
        }
        let message = format!("could not check: \"{}\" has no SELECT privilege on audit_events", self.name());
        Err(Failure::new(Kind::CouldNotCheck, message)
            .detail("This is neither \"ok\" nor \"tampered\".")
            .hint("GRANT SELECT ON audit_events to the owner of the extension."))
    }

    /// Whether private fields are shown: as far as the caller may read them, unless `wanted` says which.
    pub fn private_fields(self, table: pg_sys::Oid, wanted: Option<bool>) -> Result<bool, Failure> {
        let may = self.may_select(table, PRIVATE);
        match wanted {
            Some(true) if !may => Err(Failure::new(
                Kind::InsufficientPrivilege,
                format!("permission denied for the private fields of audit_events: \"{}\" may not SELECT them", self.name()),
            )
            .hint("Leave private_fields out: each event then carries its private_hash instead, and still verifies. The owner gives the right with audit_grant(role, 'private_reader').")),
            wanted => Ok(wanted.unwrap_or(may)),
        }
    }

    /// Whether it may see which tenants there are.
    pub fn may_see_tenants(self, table: pg_sys::Oid) -> bool {
        // SAFETY: catalog look-ups by oid; does not raise.
        let rls = unsafe { pg_sys::check_enable_rls(table, self.0, true) };
        rls as u32 != pg_sys::CheckEnableRlsResult::RLS_ENABLED
            && self.may_select(table, at::TENANT_ID..at::TENANT_ID + 1)
    }
}

fn no_extension() -> Failure {
    Failure::new(Kind::UnexpectedTable, "extension zeroauth_audit is not there")
        .hint("Run CREATE EXTENSION zeroauth_audit.")
}

/// The extension's owner acts for the caller until this is dropped, or until an error ends the (sub)transaction.
pub struct AsOwner(pg_sys::Oid, c_int);

impl AsOwner {
    /// Becomes the owner.
    pub fn begin() -> Result<Self, Failure> {
        let (_, owner) = extension_row().ok_or_else(no_extension)?;
        let (mut caller, mut context) = (pg_sys::Oid::INVALID, 0);
        // SAFETY: writes to two locals.
        unsafe { pg_sys::GetUserIdAndSecContext(&mut caller, &mut context) };
        // SAFETY: as the function manager does for SECURITY DEFINER; put back in drop.
        unsafe {
            pg_sys::SetUserIdAndSecContext(owner, context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as c_int);
        }
        Ok(Self(caller, context))
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        // SAFETY: what was read in `begin`.
        unsafe { pg_sys::SetUserIdAndSecContext(self.0, self.1) };
    }
}

/// The function that a call was handed over to. Lives as long as the calling function's own look-up.
#[repr(C)]
struct Handed {
    function: pg_sys::FmgrInfo,
    /// Its second argument, a value of fixed length.
    second: pg_sys::Datum,
    frame: pg_sys::FunctionCallInfoBaseData,
    arguments: [pg_sys::NullableDatum; 2],
}

/// Hands a call over to the function `to` of the internal schema, as PostgreSQL itself calls one that is SECURITY DEFINER: its first
/// argument is the caller's own, of type text, and its second, of type `second_type`, is made by `second` before the first row.
/// Rows pass through one by one, so that what streams there streams here.
///
/// # Safety
/// To be called from a function that PostgreSQL calls, whose result is declared as that of `to`, with nothing that has a
/// destructor in its frame: errors of the other function pass through it as they are.
pub unsafe fn hand_over(
    fcinfo: pg_sys::FunctionCallInfo,
    to: &CStr,
    second_type: pg_sys::Oid,
    second: fn(&Arguments) -> Result<pg_sys::Datum, Failure>,
) -> pg_sys::Datum {
    // SAFETY: PostgreSQL passes the look-up of the called function.
    let looked_up = unsafe { (*fcinfo).flinfo };
    // SAFETY: as above; the field is ours.
    if unsafe { (*looked_up).fn_extra }.is_null() {
        // SAFETY: by contract.
        let handed = unsafe {
            enter(fcinfo, |arguments| {
                let second = second(arguments)?;
                let function = internal_function(to, [pg_sys::TEXTOID, second_type])?;
                let handed: *mut Handed =
                    pg_sys::MemoryContextAllocZero((*looked_up).fn_mcxt, size_of::<Handed>()).cast();
                pg_sys::fmgr_info_cxt(function, &raw mut (*handed).function, (*looked_up).fn_mcxt);
                (*handed).second = second;
                Ok(handed)
            })
        };
        // SAFETY: allocated where the look-up lives.
        unsafe { (*looked_up).fn_extra = handed.cast() };
    }
    // SAFETY: set above, in this call or an earlier one.
    let handed: *mut Handed = unsafe { (*looked_up).fn_extra }.cast();
    // SAFETY: the frame and the arguments behind it are one allocation, laid out as PostgreSQL has them; its errors leave this
    // frame, which holds nothing with a destructor.
    unsafe {
        let frame = &raw mut (*handed).frame;
        (*frame).flinfo = &raw mut (*handed).function;
        (*frame).resultinfo = (*fcinfo).resultinfo;
        (*frame).fncollation = (*fcinfo).fncollation;
        (*frame).isnull = false;
        (*frame).nargs = 2;
        (*handed).arguments[0] = *(*fcinfo).args.as_ptr();
        (*handed).arguments[1] = pg_sys::NullableDatum { value: (*handed).second, isnull: false };
        let Some(function) = (*handed).function.fn_addr else { return pg_sys::Datum::null() };
        let result = function(frame);
        (*fcinfo).isnull = (*frame).isnull;
        result
    }
}

// The function finds its arguments right behind the frame.
const _: () = assert!(
    std::mem::offset_of!(Handed, arguments)
        == std::mem::offset_of!(Handed, frame) + std::mem::offset_of!(pg_sys::FunctionCallInfoBaseData, args)
);

/// Looked up as the owner: nobody else may look into the schema.
fn internal_function(name: &CStr, types: [pg_sys::Oid; 2]) -> Result<pg_sys::Oid, Failure> {
    let schema = std::ffi::CString::new(INTERNAL).unwrap_or_default();
    let _owner = AsOwner::begin()?;
    // SAFETY: a list of two palloc'ed names; raises when there is no such function.
    Ok(unsafe {
        let names = pg_sys::lappend(
            std::ptr::null_mut(),
            pg_sys::makeString(pg_sys::pstrdup(schema.as_ptr())).cast(),
        );
        let names = pg_sys::lappend(names, pg_sys::makeString(pg_sys::pstrdup(name.as_ptr())).cast());
        pg_sys::LookupFuncName(names, 2, types.as_ptr(), false)
    })
}
