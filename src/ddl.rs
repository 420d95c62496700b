//! Refuses DDL that would weaken the trail, for owners and superusers alike: a ProcessUtility hook for statements that
//! name a table or view of the extension, an object access hook for what reaches it by CASCADE or replaces the extension's functions.
//!
//! Active in every session when the library is in `shared_preload_libraries`; otherwise only in sessions that have
//! called a function of the library. A superuser who sets `zeroauth_audit.maintenance` is let through. Every attempt,
//! refused or let through, is one line in the server log.
//!
//! The statement itself runs outside of pgrx's guard: an error inside it (a DO block that raises an SQLSTATE of its
//! own) must reach the client exactly as it was raised.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::pgrx_extern_c_guard;

use crate::error::{Failure, Kind, throw};
use crate::guard::Attempt;
use crate::settings;

const TABLE: &CStr = c"audit_events";
const EXTENSION: &CStr = c"zeroauth_audit";

/// Our triggers on the table; a user's own AFTER triggers may be dropped.
const OUR_TRIGGERS: [&CStr; 3] =
    [c"zzz_zeroauth_audit_chain", c"zeroauth_audit_refuse_row", c"zeroauth_audit_refuse_statement"];

static PREVIOUS_UTILITY: OnceLock<pg_sys::ProcessUtility_hook_type> = OnceLock::new();
static PREVIOUS_ACCESS: OnceLock<pg_sys::object_access_hook_type> = OnceLock::new();

/// Puts our hooks in front of those already there.
pub fn install_hooks() {
    // SAFETY: _PG_init runs in the only thread, before any statement of this session that could see the hooks.
    unsafe {
        if PREVIOUS_UTILITY.set(pg_sys::ProcessUtility_hook).is_ok() {
            pg_sys::ProcessUtility_hook = Some(utility);
        }
        if PREVIOUS_ACCESS.set(pg_sys::object_access_hook).is_ok() {
            pg_sys::object_access_hook = Some(access);
        }
    }
}

// Called without pgrx's guard on purpose, see the header.
unsafe extern "C-unwind" {
    fn standard_ProcessUtility(
        pstmt: *mut pg_sys::PlannedStmt,
        query_string: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        query_env: *mut pg_sys::QueryEnvironment,
        dest: *mut pg_sys::DestReceiver,
        qc: *mut pg_sys::QueryCompletion,
    );
}

/// Raises what `check` finds, with no Rust frame left to unwind.
///
/// # Safety
/// To be called from a hook, with nothing that has a destructor in the caller's frame.
unsafe fn refuse_if(check: impl FnOnce() -> Result<(), Failure>) {
    // SAFETY: the only frames above are PostgreSQL's and the hook's own.
    if let Err(failure) = unsafe { pgrx_extern_c_guard(check) } {
        // SAFETY: as above.
        unsafe { throw(failure) }
    }
}

#[allow(clippy::too_many_arguments)] // PostgreSQL's signature
unsafe extern "C-unwind" fn utility(
    pstmt: *mut pg_sys::PlannedStmt,
    query_string: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    query_env: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    qc: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: PostgreSQL passes a live statement.
    unsafe { refuse_if(|| check_statement((*pstmt).utilityStmt)) };
    let next = PREVIOUS_UTILITY.get().copied().flatten().unwrap_or(standard_ProcessUtility);
    // SAFETY: the next hook, or the standard function, with our own arguments.
    unsafe { next(pstmt, query_string, read_only_tree, context, params, query_env, dest, qc) };
}

unsafe extern "C-unwind" fn access(
    kind: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: c_int,
    argument: *mut c_void,
) {
    if let Some(Some(next)) = PREVIOUS_ACCESS.get() {
        // SAFETY: the next hook, with our own arguments.
        unsafe { next(kind, class, object, sub, argument) };
    }
    use pg_sys::ObjectAccessType::{OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE};
    // Every look-up of a schema and every first call of a function comes this way too: those leave at once.
    if matches!(kind, OAT_DROP | OAT_POST_ALTER | OAT_POST_CREATE) {
        // SAFETY: called by PostgreSQL inside a transaction.
        unsafe { refuse_if(|| check_access(kind, class, object)) };
    }
}

fn refused(operation: &str) -> Failure {
    Failure::new(Kind::DdlRefused, format!("{operation} is refused on the audit trail"))
        .hint("A superuser can SET zeroauth_audit.maintenance = on; the change is logged.")
}

/// Logs an attempt; `Err` unless it is let through.
fn attempt(operation: &str, object: &str) -> Result<(), Failure> {
    if settings::maintenance() {
        Attempt::log("ddl_allowed", operation, object);
        return Ok(());
    }
    Attempt::log("ddl_refused", operation, object);
    Err(refused(operation))
}

fn our_extension() -> Option<pg_sys::Oid> {
    // SAFETY: a catalog look-up by name; missing is allowed.
    let oid = unsafe { pg_sys::get_extension_oid(EXTENSION.as_ptr(), true) };
    (oid != pg_sys::Oid::INVALID).then_some(oid)
}

fn is_member(class: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    our_extension().is_some_and(|ours| {
        // SAFETY: a catalog look-up by oid.
        ours == unsafe { pg_sys::getExtensionOfObject(class, object) }
    })
}

/// Whether `relation` is the extension's `audit_events`.
fn is_trail(relation: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up by oid, NULL for none.
    let name = unsafe { pg_sys::get_rel_name(relation) };
    // SAFETY: NUL-terminated unless NULL.
    !name.is_null()
        && unsafe { CStr::from_ptr(name) } == TABLE
        && is_member(pg_sys::RelationRelationId, relation)
}

/// The name of the relation that `name` resolves to, if it belongs to the extension: a table or view of it, or the
/// index behind a constraint of `audit_events`.
///
/// # Safety
/// `name` must be NULL or a live range variable.
unsafe fn names_ours(name: *const pg_sys::RangeVar) -> Option<String> {
    if name.is_null() || our_extension().is_none() {
        return None;
    }
    let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
    // SAFETY: takes no lock; the statement itself resolves the name again, under its own.
    let oid = unsafe { pg_sys::RangeVarGetRelidExtended(name, 0, missing_ok, None, std::ptr::null_mut()) };
    if oid == pg_sys::Oid::INVALID {
        return None;
    }
    let ours = is_member(pg_sys::RelationRelationId, oid) || is_constraint_of_trail(oid);
    // SAFETY: a relation name is NUL-terminated.
    ours.then(|| unsafe { CStr::from_ptr((*name).relname) }.to_string_lossy().into_owned())
}

/// The name of the function that `node` resolves to, if it belongs to the extension.
///
/// # Safety
/// `node` must be a function with its arguments where `kind` says so.
unsafe fn names_our_function(kind: pg_sys::ObjectType::Type, node: *mut pg_sys::Node) -> Option<String> {
    use pg_sys::ObjectType as object;
    if !matches!(kind, object::OBJECT_FUNCTION | object::OBJECT_AGGREGATE | object::OBJECT_ROUTINE) {
        return None;
    }
    our_extension()?;
    // SAFETY: by contract; missing is allowed.
    let oid = unsafe { pg_sys::LookupFuncWithArgs(kind, node.cast(), true) };
    if oid == pg_sys::Oid::INVALID || !is_member(pg_sys::ProcedureRelationId, oid) {
        return None;
    }
    // SAFETY: the function exists; its name is palloc'ed and NUL-terminated.
    Some(unsafe { CStr::from_ptr(pg_sys::get_func_name(oid)) }.to_string_lossy().into_owned())
}

/// Whether `index` is what enforces a constraint of `audit_events`; an index that a user added is not.
fn is_constraint_of_trail(index: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups by oid; invalid for what is no index, or none of a constraint.
    unsafe {
        pg_sys::get_rel_relkind(index) as u8 == pg_sys::RELKIND_INDEX
            && pg_sys::get_index_constraint(index) != pg_sys::Oid::INVALID
            && is_trail(pg_sys::IndexGetRelation(index, true))
    }
}

/// # Safety
/// `list` must be NULL or a list of nodes.
unsafe fn nodes(list: *mut pg_sys::List) -> impl Iterator<Item = *mut pg_sys::Node> {
    // SAFETY: by contract.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length as usize } };
    // SAFETY: a list of nodes has pointers in its cells, and as many as its length says.
    (0..length).map(move |n| unsafe { (*(*list).elements.add(n)).ptr_value.cast() })
}

/// # Safety
/// `name` must be NULL or NUL-terminated.
unsafe fn is_our_extension(name: *const c_char) -> bool {
    // SAFETY: by contract.
    !name.is_null() && unsafe { CStr::from_ptr(name) } == EXTENSION
}

/// ALTER TABLE actions that change nothing of what is stored, required or run.
fn is_harmless(action: pg_sys::AlterTableType::Type) -> bool {
    use pg_sys::AlterTableType as at;
    [
        at::AT_SetStatistics,
        at::AT_SetOptions,
        at::AT_ResetOptions,
        at::AT_SetStorage,
        at::AT_SetCompression,
        at::AT_ClusterOn,
        at::AT_DropCluster,
        at::AT_SetRelOptions,
        at::AT_ResetRelOptions,
        at::AT_ReplicaIdentity,
        at::AT_EnableRowSecurity,
        at::AT_DisableRowSecurity,
        at::AT_ForceRowSecurity,
        at::AT_NoForceRowSecurity,
    ]
    .contains(&action)
}

/// What a statement tries, and on what.
type Try = Option<(&'static str, String)>;

/// # Safety
/// `statement` must be NULL or a live utility statement.
unsafe fn check_statement(statement: *mut pg_sys::Node) -> Result<(), Failure> {
    use pg_sys::NodeTag as tag;
    // The extension's own scripts do what they must.
    // SAFETY: state of this process.
    if statement.is_null() || unsafe { pg_sys::creating_extension } {
        return Ok(());
    }
    // SAFETY: each cast follows the node's tag, and pointers inside a statement are NULL or live.
    let tried: Try = unsafe {
        match (*statement).type_ {
            tag::T_AlterTableStmt => check_alter_table(&*statement.cast()),
            tag::T_RenameStmt => check_rename(&*statement.cast()),
            tag::T_AlterOwnerStmt => names_ours((*statement.cast::<pg_sys::AlterOwnerStmt>()).relation)
                .map(|on| ("ALTER .. OWNER", on)),
            tag::T_AlterObjectSchemaStmt => {
                let relation = (*statement.cast::<pg_sys::AlterObjectSchemaStmt>()).relation;
                names_ours(relation).map(|on| ("ALTER .. SET SCHEMA", on))
            }
            tag::T_AlterObjectDependsStmt => {
                let depends = &*statement.cast::<pg_sys::AlterObjectDependsStmt>();
                let on = names_ours(depends.relation)
                    .or_else(|| names_our_function(depends.objectType, depends.object));
                on.map(|on| ("ALTER .. DEPENDS ON EXTENSION", on))
            }
            tag::T_RuleStmt => {
                names_ours((*statement.cast::<pg_sys::RuleStmt>()).relation).map(|on| ("CREATE RULE", on))
            }
            tag::T_ViewStmt => names_ours((*statement.cast::<pg_sys::ViewStmt>()).view)
                .map(|on| ("CREATE OR REPLACE VIEW", on)),
            tag::T_CreateTrigStmt => check_create_trigger(&*statement.cast()),
            tag::T_CreateStmt => nodes((*statement.cast::<pg_sys::CreateStmt>()).inhRelations)
                .find_map(|parent| names_ours(parent.cast()))
                .map(|on| ("CREATE TABLE .. INHERITS", on)),
            tag::T_AlterExtensionContentsStmt => {
                let contents = &*statement.cast::<pg_sys::AlterExtensionContentsStmt>();
                (is_our_extension(contents.extname) && contents.action < 0)
                    .then(|| ("ALTER EXTENSION .. DROP", "zeroauth_audit".to_owned()))
            }
            tag::T_DropStmt => check_drop(&*statement.cast()),
            tag::T_DropOwnedStmt => {
                names_owner((*statement.cast::<pg_sys::DropOwnedStmt>()).roles).map(|on| ("DROP OWNED", on))
            }
            tag::T_ReassignOwnedStmt => names_owner((*statement.cast::<pg_sys::ReassignOwnedStmt>()).roles)
                .map(|on| ("REASSIGN OWNED", on)),
            _ => None,
        }
    };
    tried.map_or(Ok(()), |(operation, on)| attempt(operation, &on))
}

/// # Safety
/// Pointers inside the statement must be NULL or live.
unsafe fn check_alter_table(statement: &pg_sys::AlterTableStmt) -> Try {
    use pg_sys::AlterTableType as at;
    // SAFETY: by contract.
    let mut commands =
        unsafe { nodes(statement.cmds) }.map(|command| unsafe { &*command.cast::<pg_sys::AlterTableCmd>() });
    // SAFETY: by contract.
    if let Some(on) = unsafe { names_ours(statement.relation) } {
        return commands.any(|command| !is_harmless(command.subtype)).then_some(("ALTER TABLE", on));
    }
    let other = |command: &pg_sys::AlterTableCmd| match command.subtype {
        // SAFETY: the definition of these two actions is the other table's name, and a PartitionCmd.
        at::AT_AddInherit => unsafe { names_ours(command.def.cast()) },
        // SAFETY: as above.
        at::AT_AttachPartition => unsafe { names_ours((*command.def.cast::<pg_sys::PartitionCmd>()).name) },
        _ => None,
    };
    commands.find_map(other).map(|on| ("ALTER TABLE .. INHERIT or ATTACH PARTITION", on))
}

/// # Safety
/// As for [`check_alter_table`].
unsafe fn check_rename(statement: &pg_sys::RenameStmt) -> Try {
    use pg_sys::ObjectType as object;
    // SAFETY: by contract.
    if let Some(on) = unsafe { names_ours(statement.relation) } {
        return (statement.renameType != object::OBJECT_POLICY).then_some(("ALTER .. RENAME", on));
    }
    if statement.renameType != object::OBJECT_SCHEMA {
        return None;
    }
    // SAFETY: a schema's name is in subname; missing is allowed.
    let schema = unsafe { pg_sys::get_namespace_oid(statement.subname, true) };
    (schema != pg_sys::Oid::INVALID && crate::access::extension_schema() == Some(schema))
        .then(|| ("ALTER SCHEMA .. RENAME", "the schema of zeroauth_audit".to_owned()))
}

/// # Safety
/// As for [`check_alter_table`].
unsafe fn check_create_trigger(statement: &pg_sys::CreateTrigStmt) -> Try {
    // A BEFORE trigger could change what we hashed, or make the row vanish; an AFTER trigger cannot.
    let after = i32::from(statement.timing) == pg_sys::TRIGGER_TYPE_AFTER as i32;
    // SAFETY: by contract; a trigger has a name.
    let name = unsafe { CStr::from_ptr(statement.trigname) };
    if after && !(statement.replace && OUR_TRIGGERS.contains(&name)) {
        return None;
    }
    // SAFETY: by contract.
    unsafe { names_ours(statement.relation) }.map(|on| ("CREATE TRIGGER .. BEFORE", on))
}

/// Whole extensions and schemas, and what CASCADE reaches: see [`check_access`].
///
/// # Safety
/// As for [`check_alter_table`].
unsafe fn check_drop(statement: &pg_sys::DropStmt) -> Try {
    use pg_sys::ObjectType as object;
    // SAFETY: by contract.
    let mut objects = unsafe { nodes(statement.objects) };
    // SAFETY: objects of these kinds are lists of names; those of a trigger end with its own.
    match statement.removeType {
        object::OBJECT_TABLE | object::OBJECT_VIEW | object::OBJECT_INDEX => objects
            // SAFETY: as above.
            .find_map(|names| unsafe { names_ours(pg_sys::makeRangeVarFromNameList(names.cast())) })
            .map(|on| ("DROP", on)),
        object::OBJECT_FUNCTION | object::OBJECT_AGGREGATE | object::OBJECT_ROUTINE => objects
            // SAFETY: as above, objects of these kinds being functions with their arguments.
            .find_map(|function| unsafe { names_our_function(statement.removeType, function) })
            .map(|on| ("DROP FUNCTION", on)),
        object::OBJECT_TRIGGER => objects
            // SAFETY: as above; the copy that is cut short is the statement's no more.
            .find_map(|names| unsafe {
                let names = names.cast::<pg_sys::List>();
                let trigger = nodes(names).last()?;
                if !OUR_TRIGGERS.contains(&pg_sys_string(trigger)) {
                    return None;
                }
                let relation = pg_sys::list_truncate(pg_sys::list_copy(names), (*names).length - 1);
                names_ours(pg_sys::makeRangeVarFromNameList(relation))
            })
            .map(|on| ("DROP TRIGGER", on)),
        _ => None,
    }
}

/// # Safety
/// `node` must be a String node.
unsafe fn pg_sys_string<'a>(node: *mut pg_sys::Node) -> &'a CStr {
    // SAFETY: by contract; its text is NUL-terminated.
    unsafe { CStr::from_ptr((*node.cast::<pg_sys::String>()).sval) }
}

/// The trail's name, if one of `roles` owns it.
///
/// # Safety
/// `roles` must be NULL or a list of roles.
unsafe fn names_owner(roles: *mut pg_sys::List) -> Option<String> {
    let trail = trail_oid()?;
    // SAFETY: opened and closed here; NULL when it was dropped meanwhile.
    let owner = unsafe {
        let relation = pg_sys::try_table_open(trail, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return None;
        }
        let owner = (*(*relation).rd_rel).relowner;
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        owner
    };
    // SAFETY: roles are RoleSpec nodes; missing is allowed.
    unsafe { nodes(roles) }
        .any(|role| unsafe { pg_sys::get_rolespec_oid(role.cast(), true) } == owner)
        .then(|| "audit_events".to_owned())
}

/// The extension's `audit_events` in this database.
fn trail_oid() -> Option<pg_sys::Oid> {
    let schema = crate::access::extension_schema()?;
    // SAFETY: a catalog look-up by name and schema.
    let oid = unsafe { pg_sys::get_relname_relid(TABLE.as_ptr(), schema) };
    (oid != pg_sys::Oid::INVALID).then_some(oid)
}

fn check_access(
    kind: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
) -> Result<(), Failure> {
    use pg_sys::ObjectAccessType as access;
    // SAFETY: state of this process.
    if unsafe { pg_sys::creating_extension } {
        return Ok(());
    }
    match (kind, class) {
        (access::OAT_DROP, pg_sys::RelationRelationId) if is_trail(object) && has_events(object) => {
            attempt("DROP", "audit_events")
        }
        (access::OAT_POST_CREATE | access::OAT_POST_ALTER, pg_sys::ProcedureRelationId)
            if is_member(class, object) =>
        {
            attempt("CREATE OR REPLACE or ALTER FUNCTION", "a function of zeroauth_audit")
        }
        _ => Ok(()),
    }
}

/// Whether the table has a row.
fn has_events(table: pg_sys::Oid) -> bool {
    // SAFETY: opened and closed here under a lock that whoever drops the table holds already; the scan sees what is
    // committed and what this transaction did.
    unsafe {
        let relation = pg_sys::try_table_open(table, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return false;
        }
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        let found = !pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection).is_null();
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        found
    }
}
