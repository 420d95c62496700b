//! Reading through SQL (SPI), read-only but for [`Session::change`]: every query of one call sees the snapshot of the
//! statement that made the call, no transaction id is assigned, and it works on a hot standby.
//!
//! Going through SQL rather than scanning the table keeps verification right where the rows are elsewhere (a
//! distributed table), and lets the planner run it in parallel.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ops::ControlFlow;

use pgrx::{IntoDatum, pg_sys};

use crate::pg::error::Failure;
use crate::pg::out_of_memory;
use crate::pg::varlena;

/// A query parameter.
#[derive(Clone, Copy)]
pub enum Parameter<'a> {
    /// `bigint`
    Int8(i64),
    /// `smallint`
    Int2(i16),
    /// `text`
    Text(&'a str),
    /// `bytea`
    Bytes(&'a [u8]),
    /// `bigint[]`
    Int8s(&'a [i64]),
    /// `text[]`
    Texts(&'a [String]),
    /// `bytea[]`
    Byteas(&'a [Vec<u8>]),
}

impl Parameter<'_> {
    /// A `bigint` that counts something, as [`bigint`] says.
    pub fn count(value: u64) -> Self {
        Self::Int8(bigint(value))
    }
}

/// A count as a `bigint`, capped at the largest one, which no table reaches.
pub fn bigint(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The first so many parameters, arrays of one length, as the columns of a table.
pub fn columns(count: usize) -> String {
    let columns: Vec<String> = (1..=count).map(|n| format!("pg_catalog.unnest(${n})")).collect();
    format!("ROWS FROM ({})", columns.join(", "))
}

/// One row of a result.
pub struct Row<'a> {
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
}

impl Row<'_> {
    /// Column `n` from 0, `None` when it is NULL.
    #[inline]
    pub fn datum(&self, n: usize) -> Option<pg_sys::Datum> {
        (!self.nulls[n]).then_some(self.values[n])
    }

    /// A `bigint` column.
    pub fn int8(&self, n: usize) -> Option<i64> {
        self.datum(n).map(|datum| datum.value() as i64)
    }

    /// A `bigint` column that counts something; `None` when it is NULL or negative.
    pub fn count(&self, n: usize) -> Option<u64> {
        self.int8(n).and_then(|count| u64::try_from(count).ok())
    }

    /// A `boolean` column; NULL is false.
    pub fn bool(&self, n: usize) -> bool {
        self.datum(n).is_some_and(|datum| datum.value() != 0)
    }

    /// A `smallint` column.
    pub fn int2(&self, n: usize) -> Option<i16> {
        self.datum(n).map(|datum| datum.value() as i16)
    }

    /// An `integer` column.
    pub fn int4(&self, n: usize) -> Option<i32> {
        self.datum(n).map(|datum| datum.value() as i32)
    }

    /// A `bytea` column; lives as long as the row.
    pub fn bytes(&self, n: usize) -> Option<&[u8]> {
        // SAFETY: the query selects a bytea there; what is fetched for it lives in the batch's memory context.
        self.datum(n).map(|datum| unsafe { varlena::bytes(datum) })
    }

    /// A `text` column.
    pub fn text(&self, n: usize) -> Result<Option<String>, Failure> {
        // SAFETY: the query selects a text there.
        let bytes = self.datum(n).map(|datum| unsafe { varlena::bytes(datum) });
        bytes.map(out_of_memory::text).transpose()
    }
}

/// Settings for the next statements, put back when dropped.
pub struct Settings(i32);

impl Settings {
    /// Reads tables in storage order and groups by hashing: the fastest way through a whole table, and the only one whose
    /// memory does not depend on the rows.
    pub fn storage_order() -> Self {
        Self::with(&[
            (c"enable_indexscan", c"off"),
            (c"enable_indexonlyscan", c"off"),
            (c"enable_bitmapscan", c"off"),
            (c"enable_sort", c"off"),
        ])
    }

    /// Settings that any user may set, and values they take.
    pub fn with(settings: &[(&CStr, &CStr)]) -> Self {
        // SAFETY: paired with AtEOXact_GUC in drop; an error in between ends the level with its transaction.
        let level = unsafe { pg_sys::NewGUCNestLevel() };
        for (name, value) in settings {
            // SAFETY: both are NUL-terminated; a setting that is refused is an error of the statement.
            unsafe {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
        }
        Self(level)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // SAFETY: the level that was opened; settings in it go back to what they were.
        unsafe { pg_sys::AtEOXact_GUC(false, self.0) };
    }
}

/// A connection to SPI, closed when dropped.
pub struct Session {
    /// Queries that are made again and again, by their text; the connection owns the plans.
    plans: RefCell<HashMap<String, pg_sys::SPIPlanPtr>>,
}

/// How many rows a cursor fetches at once.
const BATCH: std::ffi::c_long = 256;

impl Session {
    /// Connects.
    pub fn connect() -> Self {
        // SAFETY: paired with SPI_finish in drop; an error in between ends both.
        unsafe { pg_sys::SPI_connect() };
        Self { plans: RefCell::default() }
    }

    /// The plan of `sql`, made at its first use: planning takes longer than finding a few rows by an index.
    fn plan(&self, sql: &str, bound: &mut Bound) -> pg_sys::SPIPlanPtr {
        *self.plans.borrow_mut().entry(sql.to_owned()).or_insert_with(|| {
            let count = bound.types.len() as i32;
            // SAFETY: connected; the array has one element for each parameter.
            unsafe { pg_sys::SPI_prepare(bound.sql.as_ptr(), count, bound.types.as_mut_ptr()) }
        })
    }

    /// As [`Session::all`], for a query that is made again and again: it is planned once, and not for parallel workers.
    pub fn again(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        each: impl FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.execute_plan(true, sql, parameters, each)
    }

    /// As [`Session::again`], for a statement that changes something, and sees what the ones before it changed.
    pub fn change_again(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        each: impl FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.execute_plan(false, sql, parameters, each)
    }

    fn execute_plan(
        &self,
        read_only: bool,
        sql: &str,
        parameters: &[Parameter<'_>],
        mut each: impl FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        out_of_memory::check()?;
        let mut bound = Bound::new(sql, parameters);
        let plan = self.plan(sql, &mut bound);
        // SAFETY: connected; the plan is this connection's, and there is one value for each of its parameters.
        unsafe { pg_sys::SPI_execute_plan(plan, bound.values.as_mut_ptr(), std::ptr::null(), read_only, 0) };
        // SAFETY: set by the call above.
        let flow = unsafe {
            self.rows(pg_sys::SPI_tuptable, &mut |row| each(row).map(|()| ControlFlow::Continue(())))
        };
        flow.map(|_| ())
    }

    /// Runs `sql` to its end, in parallel if the planner likes, and calls `each` for every row of the result, which is
    /// held in memory: for few rows.
    pub fn all(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        each: impl FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.execute(true, sql, parameters, each)
    }

    /// As [`Session::all`], for a statement that may change something, and sees what the ones before it changed.
    pub fn change(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        each: impl FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.execute(false, sql, parameters, each)
    }

    fn execute(
        &self,
        read_only: bool,
        sql: &str,
        parameters: &[Parameter<'_>],
        mut each: impl FnMut(&Row<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        out_of_memory::check()?;
        let mut bound = Bound::new(sql, parameters);
        // SAFETY: connected; the arrays have one element for each parameter.
        unsafe {
            pg_sys::SPI_execute_with_args(
                bound.sql.as_ptr(),
                bound.values.len() as i32,
                bound.types.as_mut_ptr(),
                bound.values.as_mut_ptr(),
                std::ptr::null(),
                read_only,
                0,
            );
        }
        // SAFETY: set by the call above.
        let flow = unsafe {
            self.rows(pg_sys::SPI_tuptable, &mut |row| each(row).map(|()| ControlFlow::Continue(())))
        };
        flow.map(|_| ())
    }

    /// Runs `sql` as a cursor and calls `each` for every row until it breaks off: memory for one batch, however many rows
    /// there are.
    pub fn stream(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        mut each: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        out_of_memory::check()?;
        let mut bound = Bound::new(sql, parameters);
        let plan = self.plan(sql, &mut bound);
        // SAFETY: connected; the plan is this connection's, and there is one value for each of its parameters.
        let portal = unsafe {
            pg_sys::SPI_cursor_open(std::ptr::null(), plan, bound.values.as_mut_ptr(), std::ptr::null(), true)
        };
        loop {
            // SAFETY: the portal is open.
            unsafe { pg_sys::SPI_cursor_fetch(portal, true, BATCH) };
            // SAFETY: set by the fetch.
            let fetched = unsafe { pg_sys::SPI_processed };
            // SAFETY: as above.
            let flow = unsafe { self.rows(pg_sys::SPI_tuptable, &mut each)? };
            if fetched == 0 || flow.is_break() {
                break;
            }
        }
        // SAFETY: open until here; after an error the end of the transaction closes it.
        unsafe { pg_sys::SPI_cursor_close(portal) };
        Ok(())
    }

    /// # Safety
    /// `table` must be NULL or a live result of this session; it is freed.
    unsafe fn rows(
        &self,
        table: *mut pg_sys::SPITupleTable,
        each: &mut impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<ControlFlow<()>, Failure> {
        if table.is_null() {
            return Ok(ControlFlow::Continue(()));
        }
        // Memory that reading a row takes is freed with its batch.
        let mut batch = pgrx::PgMemoryContexts::new("zeroauth_audit batch");
        // SAFETY: live by contract.
        let (count, desc) = unsafe { ((*table).numvals as usize, (*table).tupdesc) };
        // SAFETY: live with the table.
        let width = unsafe { (*desc).natts } as usize;
        let (mut values, mut nulls) = (vec![pg_sys::Datum::null(); width], vec![true; width]);
        // SAFETY: the context lives to the end of this function, and the closure keeps nothing of it.
        let result = unsafe {
            batch.switch_to(|_| {
                for n in 0..count {
                    let tuple = *(*table).vals.add(n);
                    pg_sys::heap_deform_tuple(tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
                    let flow = each(&Row { values: &values, nulls: &nulls })?;
                    out_of_memory::check()?;
                    if flow.is_break() {
                        return Ok(flow);
                    }
                }
                Ok(ControlFlow::Continue(()))
            })
        };
        // SAFETY: live by contract, and not looked at any more.
        unsafe { pg_sys::SPI_freetuptable(table) };
        result
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: connected in `connect`; harmless after an error, which ends SPI by itself.
        unsafe { pg_sys::SPI_finish() };
    }
}

/// A query with its parameters as SPI wants them.
struct Bound {
    sql: CString,
    types: Vec<pg_sys::Oid>,
    values: Vec<pg_sys::Datum>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let long = |oid: &pg_sys::Oid| *oid != pg_sys::INT8OID && *oid != pg_sys::INT2OID;
        for (_, value) in self.types.iter().zip(&self.values).filter(|(oid, _)| long(oid)) {
            // SAFETY: palloc'ed in `new`; the query that read it is over.
            unsafe { pg_sys::pfree(value.cast_mut_ptr()) };
        }
    }
}

impl Bound {
    fn new(sql: &str, parameters: &[Parameter<'_>]) -> Self {
        let (types, values) = parameters
            .iter()
            .map(|parameter| match *parameter {
                Parameter::Int8(number) => (pg_sys::INT8OID, pg_sys::Datum::from(number)),
                Parameter::Int2(number) => (pg_sys::INT2OID, pg_sys::Datum::from(number)),
                Parameter::Text(text) => {
                    let stored = pgrx::varlena::rust_str_to_text_p(text).into_pg();
                    (pg_sys::TEXTOID, pg_sys::Datum::from(stored))
                }
                Parameter::Bytes(bytes) => (pg_sys::BYTEAOID, varlena::bytea(bytes)),
                Parameter::Int8s(numbers) => (pg_sys::INT8ARRAYOID, array(numbers.iter().copied())),
                Parameter::Texts(texts) => (pg_sys::TEXTARRAYOID, array(texts.iter().map(String::as_str))),
                Parameter::Byteas(pieces) => (pg_sys::BYTEAARRAYOID, array(pieces.iter().map(Vec::as_slice))),
            })
            .unzip();
        Self { sql: CString::new(sql).unwrap_or_default(), types, values }
    }
}

/// An array of these elements, palloc'ed.
fn array<T: IntoDatum>(elements: impl Iterator<Item = T>) -> pg_sys::Datum {
    // Only an Option of an array is ever none.
    elements.collect::<Vec<T>>().into_datum().unwrap_or(pg_sys::Datum::null())
}
