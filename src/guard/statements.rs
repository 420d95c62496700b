//! Which statements would weaken the trail: those that change, move, rename, drop or inherit what belongs to the
//! extension, or let a user's trigger see an event before it is chained.
//!
//! Only classifies, by the parsed statement and the catalogs: [`crate::guard::ddl`] refuses.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

use crate::pg::list::nodes;
use crate::trail::membership::{
    EXTENSION, extension_schema, is_member, is_trail, our_extension, runs_own_script, trail_oid,
};
use crate::trail::scratch;

/// Our triggers on the table; a user's own AFTER triggers may be dropped.
pub const OUR_TRIGGERS: [&CStr; 3] =
    [c"zzz_zeroauth_audit_chain", c"zeroauth_audit_refuse_row", c"zeroauth_audit_refuse_statement"];

/// The one index that enforces something without a constraint.
const ONE_UNRESOLVED: &CStr = c"alerts_unresolved";

/// What a statement tries, and on what.
pub type Try = Option<(&'static str, String)>;

/// The utility statement that runs, as far as the object access hook needs it: what it is called for says not by what.
#[derive(Clone, Copy)]
pub struct Running {
    kind: pg_sys::NodeTag,
    drops: Option<pg_sys::ObjectType::Type>,
    /// ALTER TABLE with nothing but [`is_harmless`] in it: for the trail, and for the other tables.
    harmless: (bool, bool),
    renames_schema: bool,
}

impl Running {
    /// None.
    pub const NONE: Self = Self {
        kind: pg_sys::NodeTag::T_Invalid,
        drops: None,
        harmless: (false, false),
        renames_schema: false,
    };

    /// # Safety
    /// `statement` must be a live utility statement.
    pub unsafe fn of(statement: *mut pg_sys::Node) -> Self {
        use pg_sys::NodeTag as tag;
        // SAFETY: each cast follows the node's tag.
        unsafe {
            let mut running = Self { kind: (*statement).type_, ..Self::NONE };
            match running.kind {
                tag::T_DropStmt => running.drops = Some((*statement.cast::<pg_sys::DropStmt>()).removeType),
                tag::T_AlterTableStmt => {
                    let all = |of_trail: bool| {
                        nodes((*statement.cast::<pg_sys::AlterTableStmt>()).cmds)
                            .all(|one| is_harmless((*one.cast::<pg_sys::AlterTableCmd>()).subtype, of_trail))
                    };
                    running.harmless = (all(true), all(false));
                }
                tag::T_RenameStmt => {
                    let kind = (*statement.cast::<pg_sys::RenameStmt>()).renameType;
                    running.renames_schema = kind == pg_sys::ObjectType::OBJECT_SCHEMA;
                }
                _ => {}
            }
            running
        }
    }

    /// DROP of objects of one kind.
    pub fn drops(self, kind: pg_sys::ObjectType::Type) -> bool {
        self.drops == Some(kind)
    }

    /// ALTER TABLE.
    pub fn alters_table(self) -> bool {
        self.kind == pg_sys::NodeTag::T_AlterTableStmt
    }

    /// CREATE TABLE: what belongs to the table is as new as it. From 18 on that is a constraint for each NOT NULL, too.
    pub fn makes_table(self) -> bool {
        self.kind == pg_sys::NodeTag::T_CreateStmt
    }

    /// What may make an index that is not there yet: not REINDEX.
    pub fn makes_index(self) -> bool {
        matches!(self.kind, pg_sys::NodeTag::T_IndexStmt | pg_sys::NodeTag::T_AlterTableStmt)
    }

    /// GRANT or REVOKE.
    pub fn is_grant(self) -> bool {
        self.kind == pg_sys::NodeTag::T_GrantStmt
    }

    /// ALTER SCHEMA .. RENAME.
    pub fn renames(self) -> bool {
        self.renames_schema
    }

    /// Whether it changes nothing of `relation` that matters.
    pub fn is_harmless_for(self, relation: pg_sys::Oid) -> bool {
        // SAFETY: a look-up by oid.
        let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
        let of_trail = is_trail(relation) || kind == pg_sys::RELKIND_INDEX;
        kind != pg_sys::RELKIND_VIEW && if of_trail { self.harmless.0 } else { self.harmless.1 }
    }
}

/// What `statement` would do to the trail, if it would weaken it.
///
/// # Safety
/// `statement` must be NULL or a live utility statement.
pub unsafe fn tried(statement: *mut pg_sys::Node) -> Try {
    use pg_sys::NodeTag as tag;
    // The extension's own scripts do what they must; those of other extensions may not.
    if statement.is_null() || runs_own_script() {
        return None;
    }
    // SAFETY: each cast follows the node's tag, and pointers inside a statement are NULL or live.
    unsafe {
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
                is_our_extension(contents.extname)
                    .then(|| ("ALTER EXTENSION .. ADD or DROP", "zeroauth_audit".to_owned()))
            }
            tag::T_DropStmt => check_drop(&*statement.cast()),
            tag::T_DropOwnedStmt => {
                names_owner((*statement.cast::<pg_sys::DropOwnedStmt>()).roles).map(|on| ("DROP OWNED", on))
            }
            tag::T_ReassignOwnedStmt => names_owner((*statement.cast::<pg_sys::ReassignOwnedStmt>()).roles)
                .map(|on| ("REASSIGN OWNED", on)),
            _ => None,
        }
    }
}

/// # Safety
/// Pointers inside the statement must be NULL or live.
unsafe fn check_alter_table(statement: &pg_sys::AlterTableStmt) -> Try {
    use pg_sys::AlterTableType as at;
    // SAFETY: by contract.
    let mut commands =
        unsafe { nodes(statement.cmds) }.map(|command| unsafe { &*command.cast::<pg_sys::AlterTableCmd>() });
    // SAFETY: by contract.
    if let Some((oid, on)) = unsafe { resolves_to_ours(statement.relation) } {
        let of_trail = is_trail(oid);
        return commands
            .any(|command| !is_harmless(command.subtype, of_trail))
            .then_some(("ALTER TABLE", on));
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
    (schema != pg_sys::Oid::INVALID && extension_schema() == Some(schema))
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

/// Whole extensions and schemas, and what CASCADE reaches: see [`crate::guard::ddl`].
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

/// The name of the relation that `name` resolves to, if it belongs to the extension: a table or view of it, or the
/// index that enforces something of a table.
///
/// # Safety
/// `name` must be NULL or a live range variable.
unsafe fn names_ours(name: *const pg_sys::RangeVar) -> Option<String> {
    // SAFETY: by contract.
    unsafe { resolves_to_ours(name) }.map(|(_, name)| name)
}

/// As [`names_ours`], with the relation.
///
/// # Safety
/// As for [`names_ours`].
unsafe fn resolves_to_ours(name: *const pg_sys::RangeVar) -> Option<(pg_sys::Oid, String)> {
    if name.is_null() || our_extension().is_none() {
        return None;
    }
    let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
    // SAFETY: takes no lock; the statement itself resolves the name again, under its own.
    let oid = unsafe { pg_sys::RangeVarGetRelidExtended(name, 0, missing_ok, None, std::ptr::null_mut()) };
    if oid == pg_sys::Oid::INVALID {
        return None;
    }
    let ours = is_member(pg_sys::RelationRelationId, oid) || is_trail(oid) || enforces(oid);
    if !ours {
        return None;
    }
    // SAFETY: a relation name is NUL-terminated.
    let name = unsafe { CStr::from_ptr((*name).relname) }.to_string_lossy();
    Some((oid, scratch::shown(oid, &name)))
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

/// Whether `index` enforces something of the extension's tables: a constraint, or that a condition has one unresolved
/// alert; an index that a user added does not.
pub fn enforces(index: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups by oid; invalid for what is no index, or none of a constraint; the name is NULL or
    // NUL-terminated.
    unsafe {
        if pg_sys::get_rel_relkind(index) as u8 != pg_sys::RELKIND_INDEX {
            return false;
        }
        let name = pg_sys::get_rel_name(index);
        let ours = pg_sys::get_index_constraint(index) != pg_sys::Oid::INVALID
            || !name.is_null() && CStr::from_ptr(name) == ONE_UNRESOLVED;
        let table = pg_sys::IndexGetRelation(index, true);
        ours && (is_member(pg_sys::RelationRelationId, table) || is_trail(table))
    }
}

/// # Safety
/// `name` must be NULL or NUL-terminated.
unsafe fn is_our_extension(name: *const c_char) -> bool {
    // SAFETY: by contract.
    !name.is_null() && unsafe { CStr::from_ptr(name) } == EXTENSION
}

/// ALTER TABLE actions that change neither stored rows, nor constraints, nor triggers. Row-level security is for the trail alone.
fn is_harmless(action: pg_sys::AlterTableType::Type, of_trail: bool) -> bool {
    use pg_sys::AlterTableType as at;
    let row_security = [
        at::AT_EnableRowSecurity,
        at::AT_DisableRowSecurity,
        at::AT_ForceRowSecurity,
        at::AT_NoForceRowSecurity,
    ];
    if row_security.contains(&action) {
        return of_trail;
    }
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
    ]
    .contains(&action)
}
