//! Returning rows from a function: one call fills the executor's tuplestore, which spills to disk when it is large.

use pgrx::pg_sys;

use crate::pg::call::Arguments;
use crate::pg::varlena;

/// The result of a set-returning function.
pub struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    /// For the values of one row, emptied after each.
    context: pgrx::PgMemoryContexts,
}

/// A value of a result row.
pub enum Value {
    /// NULL
    Null,
    /// `boolean`
    Bool(bool),
    /// `smallint`
    Int2(i16),
    /// `integer`
    Int4(i32),
    /// `bigint`
    Int8(i64),
    /// `text`
    Text(String),
    /// `text[]`
    Texts(Vec<&'static str>),
    /// `bytea`
    Bytea([u8; 32]),
    /// `uuid`
    Uuid([u8; 16]),
}

impl Rows {
    /// Starts the result of the called function, whose declaration gives the columns.
    pub fn start(arguments: &Arguments) -> Self {
        // SAFETY: the function is declared as returning a set; raises where a set is not accepted.
        unsafe {
            pg_sys::InitMaterializedSRF(arguments.raw(), 0);
            let info = (*arguments.raw()).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            Self {
                store: (*info).setResult,
                desc: (*info).setDesc,
                context: pgrx::PgMemoryContexts::new("zeroauth_audit result row"),
            }
        }
    }

    /// Adds a row: one value for each declared column.
    pub fn push(&mut self, row: Vec<Value>) {
        let mut nulls: Vec<bool> = row.iter().map(|value| matches!(value, Value::Null)).collect();
        let (store, desc) = (self.store, self.desc);
        // SAFETY: the context lives as long as `self`; the tuplestore copies the values into its own.
        unsafe {
            self.context.switch_to(|_| {
                let mut values: Vec<pg_sys::Datum> = row.into_iter().map(datum).collect();
                pg_sys::tuplestore_putvalues(store, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            });
            self.context.reset();
        }
    }
}

fn text(text: &str) -> pg_sys::Datum {
    pg_sys::Datum::from(pgrx::varlena::rust_str_to_text_p(text).into_pg())
}

fn datum(value: Value) -> pg_sys::Datum {
    use pgrx::IntoDatum as _;
    match value {
        Value::Null => pg_sys::Datum::null(),
        Value::Bool(yes) => pg_sys::Datum::from(yes),
        Value::Int2(number) => pg_sys::Datum::from(number),
        Value::Int4(number) => pg_sys::Datum::from(number),
        Value::Int8(number) => pg_sys::Datum::from(number),
        Value::Text(string) => text(&string),
        Value::Texts(strings) => strings.into_datum().unwrap_or(pg_sys::Datum::null()),
        Value::Bytea(bytes) => varlena::bytea(&bytes),
        Value::Uuid(bytes) => {
            pgrx::datum::Uuid::from_bytes(bytes).into_datum().unwrap_or(pg_sys::Datum::null())
        }
    }
}
