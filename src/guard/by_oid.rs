//! Decides about DDL where names cannot deceive: in the object access hook, which gets the object itself, under the lock of the statement.
//!
//! [`crate::guard::statements`] refuses the same by name, before anything is done, with the better message. Between that and the
//! statement's own look at the name another transaction can put another table in its place: then it is refused here.
//!
//! What is new beside the extension is looked at here, too: a function that is called like one of ours, anything in the internal schema,
//! an index on our tables that refuses rows or runs somebody's code, a trigger on a table that is nobody's own.

use std::ffi::{CStr, c_int, c_void};

use pgrx::pg_sys;

use crate::guard::statements::{self, OUR_TRIGGERS, Running, Try};
use crate::pg::catalog_row::{
    self, CONSTRAINTS, DEFAULTS, FUNCTIONS, INDEXES, INHERITS, OPERATORS, POLICIES, RELATIONS, RULES,
    TRIGGERS,
};
use crate::pg::names;
use crate::trail::identity;
use crate::trail::membership::{extension_schema, is_member, is_trail, runs_own_script};
use crate::trail::scratch;

/// What PostgreSQL says has happened, or is about to.
#[derive(Clone, Copy)]
pub struct Access {
    /// Drop, alteration, creation.
    pub kind: pg_sys::ObjectAccessType::Type,
    /// The catalog of the object.
    pub class: pg_sys::Oid,
    /// The object.
    pub object: pg_sys::Oid,
    /// Its column, 0 for the whole.
    pub sub: c_int,
    /// Depends on the kind.
    pub argument: *mut c_void,
}

const FUNCTION: &str = "a function of zeroauth_audit";
const BESIDE: &str = "schema zeroauth_audit_internal";

/// What it would do to the trail, if it would weaken it.
///
/// # Safety
/// The argument must be PostgreSQL's, in a transaction.
pub unsafe fn tried(access: Access, running: Running) -> Try {
    use pg_sys::ObjectAccessType::{OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE};
    if identity::internal_schema().is_none() || runs_own_script() {
        return None;
    }
    match access.kind {
        OAT_DROP => dropped(access, running),
        OAT_POST_CREATE => created(access, running),
        // SAFETY: by contract.
        OAT_POST_ALTER => unsafe { altered(access, running) },
        _ => None,
    }
}

/// The name of a table, view or sequence of ours.
fn ours(relation: pg_sys::Oid) -> Option<String> {
    if !is_member(pg_sys::RelationRelationId, relation) && !is_trail(relation) {
        return None;
    }
    Some(scratch::shown(relation, &names::plain_relation(relation).unwrap_or_default()))
}

/// The same, of the relation that a row of a catalog is about.
fn ours_of(
    catalog: catalog_row::Catalog,
    object: pg_sys::Oid,
    column: &CStr,
) -> Option<(pg_sys::Oid, String)> {
    let relation = catalog_row::oid_column(catalog, object, column)?;
    ours(relation).map(|name| (relation, name))
}

fn dropped(access: Access, running: Running) -> Try {
    let Access { class, object, sub, .. } = access;
    if class == pg_sys::RelationRelationId && sub == 0 {
        let index = running.drops(pg_sys::ObjectType::OBJECT_INDEX) && statements::enforces(object);
        return index.then(|| ("DROP INDEX", names::plain_relation(object).unwrap_or_default()));
    }
    if class == TRIGGERS.class && running.drops(pg_sys::ObjectType::OBJECT_TRIGGER) {
        let (_, name) = ours_of(TRIGGERS, object, c"tgrelid")?;
        return is_our_trigger(object).then_some(("DROP TRIGGER", name));
    }
    if !running.alters_table() {
        return None; // with the table, which is decided for itself
    }
    let name = match class {
        pg_sys::RelationRelationId => ours(object)?,
        class if class == CONSTRAINTS.class => ours_of(CONSTRAINTS, object, c"conrelid")?.1,
        class if class == DEFAULTS.class => ours_of(DEFAULTS, object, c"adrelid")?.1,
        _ => return None,
    };
    Some(("ALTER TABLE", name))
}

fn created(access: Access, running: Running) -> Try {
    let Access { class, object, sub, .. } = access;
    match class {
        pg_sys::RelationRelationId if sub != 0 => ours(object).map(|name| ("ALTER TABLE", name)),
        pg_sys::RelationRelationId if running.makes_index() => index(object),
        // The file that VACUUM FULL and CLUSTER write is a table for a while.
        // SAFETY: the argument is that of a creation.
        pg_sys::RelationRelationId if unsafe { is_internal(access) } => None,
        pg_sys::RelationRelationId => strange_relation(object),
        pg_sys::OperatorRelationId => {
            let schema = catalog_row::oid_column(OPERATORS, object, c"oprnamespace");
            (schema == identity::internal_schema()).then(|| ("CREATE OPERATOR", BESIDE.to_owned()))
        }
        pg_sys::ProcedureRelationId if is_member(class, object) => {
            Some(("CREATE OR REPLACE or ALTER FUNCTION", FUNCTION.to_owned()))
        }
        pg_sys::ProcedureRelationId => stranger(object),
        class if class == TRIGGERS.class => trigger(object),
        class if class == RULES.class => {
            ours_of(RULES, object, c"ev_class").map(|(_, on)| ("CREATE RULE", on))
        }
        class if class == POLICIES.class => policy(object),
        class if class == CONSTRAINTS.class && running.makes_table() => None,
        class if class == CONSTRAINTS.class => constraint(object),
        // The object is the table, for once.
        class if class == DEFAULTS.class => ours(object).map(|name| ("ALTER TABLE", name)),
        _ => None,
    }
}

/// Whether PostgreSQL creates something for itself.
///
/// # Safety
/// The argument must be that of a creation.
unsafe fn is_internal(access: Access) -> bool {
    let argument = access.argument.cast::<pg_sys::ObjectAccessPostCreate>();
    // SAFETY: by contract; NULL for none.
    !argument.is_null() && unsafe { (*argument).is_internal }
}

/// # Safety
/// The argument must be that of an alteration.
unsafe fn altered(access: Access, running: Running) -> Try {
    let Access { class, object, .. } = access;
    let argument = access.argument.cast::<pg_sys::ObjectAccessPostAlter>();
    // SAFETY: by contract; NULL for none.
    let (internal, other) = unsafe {
        if argument.is_null() {
            (false, pg_sys::Oid::INVALID)
        } else {
            ((*argument).is_internal, (*argument).auxiliary_id)
        }
    };
    match class {
        pg_sys::RelationRelationId if !internal && !running.is_grant() => {
            let name = ours(object).or_else(|| {
                statements::enforces(object).then(|| names::plain_relation(object).unwrap_or_default())
            });
            match name {
                Some(name) => (!running.is_harmless_for(object)).then_some(("ALTER", name)),
                None => strange_relation(object),
            }
        }
        pg_sys::ProcedureRelationId if is_member(class, object) => {
            Some(("CREATE OR REPLACE or ALTER FUNCTION", FUNCTION.to_owned()))
        }
        pg_sys::ProcedureRelationId => stranger(object),
        pg_sys::NamespaceRelationId if !running.is_grant() => {
            let internal = identity::internal_schema() == Some(object);
            (internal || running.renames() && extension_schema() == Some(object))
                .then(|| ("ALTER SCHEMA", "a schema of zeroauth_audit".to_owned()))
        }
        class if class == TRIGGERS.class => {
            ours_of(TRIGGERS, object, c"tgrelid").map(|(_, on)| ("ALTER TRIGGER", on))
        }
        class if class == RULES.class => {
            ours_of(RULES, object, c"ev_class").map(|(_, on)| ("ALTER RULE", on))
        }
        class if class == POLICIES.class => policy(object),
        class if class == CONSTRAINTS.class => constraint(object),
        INHERITS => ours(object).or_else(|| ours(other)).map(|on| ("INHERIT or ATTACH PARTITION", on)),
        _ => None,
    }
}

/// On the trail everybody may have policies; on other tables of ours they would hide rows, or nothing.
fn policy(object: pg_sys::Oid) -> Try {
    let (relation, name) = ours_of(POLICIES, object, c"polrelid")?;
    (!is_trail(relation)).then_some(("CREATE POLICY", name))
}

/// A constraint trigger has a constraint; it is decided as a trigger.
fn constraint(object: pg_sys::Oid) -> Try {
    let (_, name) = ours_of(CONSTRAINTS, object, c"conrelid")?;
    let kind = catalog_row::column(CONSTRAINTS, object, c"contype")?.value() as u8;
    (kind != b't').then_some(("ALTER TABLE", name))
}

/// An index that only finds rows is everybody's own. One that refuses some makes events vanish (ON CONFLICT DO NOTHING), one with an
/// expression or a condition runs its owner's code in every insert.
fn index(object: pg_sys::Oid) -> Try {
    let (_, name) = ours_of(INDEXES, object, c"indrelid")?;
    let refuses = catalog_row::is_true(INDEXES, object, c"indisunique")
        || catalog_row::is_true(INDEXES, object, c"indisexclusion");
    let computes = catalog_row::has(INDEXES, object, pg_sys::Anum_pg_index_indpred)
        || catalog_row::has(INDEXES, object, pg_sys::Anum_pg_index_indexprs);
    if refuses {
        return Some(("CREATE UNIQUE INDEX", name));
    }
    computes.then_some(("CREATE INDEX with an expression or a condition", name))
}

fn is_our_trigger(object: pg_sys::Oid) -> bool {
    catalog_row::look(TRIGGERS, object, |row, _| {
        // SAFETY: the row is of this catalog; its name is NUL-terminated.
        unsafe {
            let form: *const pg_sys::FormData_pg_trigger = catalog_row::fixed(row);
            let name = CStr::from_ptr((*form).tgname.data.as_ptr());
            OUR_TRIGGERS.contains(&name)
                || !is_trail((*form).tgrelid) && name.to_bytes().starts_with(b"zeroauth_audit_")
        }
    })
    .unwrap_or(false)
}

/// On the trail an AFTER trigger is everybody's own, and so are those of foreign keys that refer to it. One that may wait for the commit is
/// not: it could refuse the transaction that has just told of it. On other tables of ours all are refused.
fn trigger(object: pg_sys::Oid) -> Try {
    let (relation, name) = ours_of(TRIGGERS, object, c"tgrelid")?;
    if !is_trail(relation) {
        return Some(("CREATE TRIGGER", name));
    }
    if is_our_trigger(object) {
        return Some(("CREATE OR REPLACE TRIGGER", name));
    }
    let (kind, waits) = catalog_row::look(TRIGGERS, object, |row, _| {
        // SAFETY: the row is of this catalog.
        let form = unsafe { &*catalog_row::fixed::<pg_sys::FormData_pg_trigger>(row) };
        (form.tgtype as u32, form.tgdeferrable)
    })?;
    if kind & (pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSTEAD) != 0 {
        return Some(("CREATE TRIGGER .. BEFORE", name));
    }
    (waits && kind & pg_sys::TRIGGER_TYPE_INSERT != 0)
        .then_some(("CREATE CONSTRAINT TRIGGER .. DEFERRABLE", name))
}

/// A table, view or sequence of somebody else in the internal schema.
fn strange_relation(object: pg_sys::Oid) -> Try {
    let schema = catalog_row::oid_column(RELATIONS, object, c"relnamespace");
    if schema != identity::internal_schema() || is_member(pg_sys::RelationRelationId, object) {
        return None;
    }
    let kind = catalog_row::column(RELATIONS, object, c"relkind")?.value() as u8;
    (kind != pg_sys::RELKIND_INDEX).then(|| ("CREATE in a schema of zeroauth_audit", BESIDE.to_owned()))
}

/// A function of somebody else in the internal schema, or one that is called like one of ours in the extension's: a call could reach it
/// instead.
fn stranger(function: pg_sys::Oid) -> Try {
    let schema = catalog_row::oid_column(FUNCTIONS, function, c"pronamespace")?;
    let internal = identity::internal_schema() == Some(schema);
    if !internal && extension_schema() != Some(schema) {
        return None;
    }
    let name = catalog_row::look(FUNCTIONS, function, |row, _| {
        // SAFETY: the row is of this catalog.
        unsafe { (*catalog_row::fixed::<pg_sys::FormData_pg_proc>(row)).proname }
    })?;
    // SAFETY: NUL-terminated; a list of those of the name, which is not changed.
    let shown = unsafe { CStr::from_ptr(name.data.as_ptr()) }.to_string_lossy().into_owned();
    (internal || names_ours(&name, schema))
        .then_some(("CREATE FUNCTION beside those of zeroauth_audit", shown))
}

/// Whether a function of the extension is called so.
fn names_ours(name: &pg_sys::NameData, schema: pg_sys::Oid) -> bool {
    // SAFETY: a look-up of all functions of a name; the list is released.
    unsafe {
        let list = pg_sys::SearchSysCacheList(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            1,
            pg_sys::Datum::from(name.data.as_ptr()),
            pg_sys::Datum::from(0),
            pg_sys::Datum::from(0),
        );
        let count = usize::try_from((*list).n_members).unwrap_or(0);
        let found = (0..count).any(|n| {
            let row = &raw mut (**(*list).members.as_ptr().add(n)).tuple;
            let form = catalog_row::fixed::<pg_sys::FormData_pg_proc>(row);
            (*form).pronamespace == schema && is_member(pg_sys::ProcedureRelationId, (*form).oid)
        });
        pg_sys::ReleaseCatCacheList(list);
        found
    }
}
