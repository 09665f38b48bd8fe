//! What a statement does, and whether a tenant may.
//!
//! What is not named here is refused, with a sentence that says what to write instead where there is something.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    CreateTable, CreateView, Ident, Insert, ObjectName, ObjectType, Query, SchemaName, Select, SelectInto, SetExpr,
    Statement as Ast, TableObject, Truncate, Value, ValueWithSpan, Visit, Visitor,
};

use super::names::Name;
use super::roles::{self, Roles, Shown};
use crate::{Code, SqlError};

/// What a statement does, with the names it does it to.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `select`, `values`, `table`, `show`, `describe`: rows and no effect.
    Query,
    /// `explain`, with or without `analyze`.
    Explain,
    /// `insert into`.
    Insert {
        /// The table that gets the rows.
        into: Name,
        /// `insert overwrite`: the rows replace what was there.
        overwrite: bool,
    },
    /// `create table`, with columns or `as select`.
    CreateTable {
        /// The new table.
        name: Name,
        /// `if not exists`.
        if_not_exists: bool,
        /// `or replace`.
        or_replace: bool,
        /// `as select …`.
        from_query: bool,
    },
    /// `create view`.
    CreateView {
        /// The new view.
        name: Name,
        /// `if not exists`.
        if_not_exists: bool,
        /// `or replace`.
        or_replace: bool,
        /// What the view means, with the names of its columns if they were given.
        query: String,
    },
    /// `create schema`.
    CreateDataset {
        /// The project it was written with, if any.
        project: Option<String>,
        /// The new dataset.
        name: String,
        /// `if not exists`.
        if_not_exists: bool,
    },
    /// `drop schema`.
    DropDataset {
        /// The project it was written with, if any.
        project: Option<String>,
        /// The dataset.
        name: String,
        /// `if exists`.
        if_exists: bool,
        /// `cascade`: with all that is in it.
        cascade: bool,
    },
    /// `drop table` or `drop view`.
    Drop {
        /// What to drop.
        name: Name,
        /// `if exists`.
        if_exists: bool,
        /// A view rather than a table.
        view: bool,
    },
    /// `truncate`.
    Truncate {
        /// The table that loses its rows.
        name: Name,
        /// `if exists`.
        if_exists: bool,
    },
    /// `grant role`.
    Grant(Roles),
    /// `revoke role`.
    Revoke(Roles),
    /// `show grants`.
    ShowGrants(Shown),
}

impl Kind {
    /// The word for it in logs, in the query's record and on its page.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Query => "select",
            Kind::Explain => "explain",
            Kind::Insert { .. } => "insert",
            Kind::CreateTable { from_query: true, .. } => "create_table_as",
            Kind::CreateTable { .. } => "create_table",
            Kind::CreateView { .. } => "create_view",
            Kind::CreateDataset { .. } => "create_schema",
            Kind::DropDataset { .. } => "drop_schema",
            Kind::Drop { view: true, .. } => "drop_view",
            Kind::Drop { .. } => "drop_table",
            Kind::Truncate { .. } => "truncate",
            Kind::Grant(_) => "grant",
            Kind::Revoke(_) => "revoke",
            Kind::ShowGrants(_) => "show_grants",
        }
    }
}

/// What the statement does, or why a tenant may not.
pub(super) fn classify(parsed: &Parsed) -> Result<Kind, SqlError> {
    match parsed {
        Parsed::Statement(ast) => classify_ast(ast),
        Parsed::Explain(explain) => match classify(&explain.statement)? {
            Kind::Query | Kind::Explain => Ok(Kind::Explain),
            other => Err(not_supported(format!(
                "explain of {} is not supported; explain its query",
                other.word().replace('_', " ")
            ))),
        },
        Parsed::CreateExternalTable(_) => Err(not_allowed(
            "create external table would read from outside the project; load the file with `wasmhouse load` or POST it to the table",
        )),
        Parsed::CopyTo(_) => Err(not_allowed(
            "copy would write outside the project; export the query with POST /v1/exports",
        )),
        Parsed::Reset(_) => Err(not_allowed("reset has nothing to reset: a setting lasts for one query")),
    }
}

fn classify_ast(ast: &Ast) -> Result<Kind, SqlError> {
    match ast {
        Ast::Query(query) => match query.body.as_ref() {
            _ if hides_into(query) => Err(SqlError::new(
                Code::InvalidSql,
                "`into` belongs to the outermost select; write `create table t as` before the query",
            )),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => Err(not_supported(
                "a statement that changes rows inside a query is not supported",
            )),
            SetExpr::Select(select) => match &select.into {
                Some(into) => classify_select_into(into),
                None => Ok(Kind::Query),
            },
            _ => Ok(Kind::Query),
        },
        Ast::ShowTables { .. }
        | Ast::ShowColumns { .. }
        | Ast::ShowFunctions { .. }
        | Ast::ShowCreate { .. }
        | Ast::ExplainTable { .. } => Ok(Kind::Query),
        Ast::ShowVariable { variable } => classify_show(variable),
        Ast::ShowVariables { .. } => Err(not_supported("show variables is not supported; write `show all`")),
        Ast::ShowSchemas { .. } | Ast::ShowDatabases { .. } => Err(not_supported(
            "show schemas and show databases are not supported; write `select schema_name from information_schema.schemata`",
        )),
        Ast::Explain { statement, .. } => match classify_ast(statement)? {
            Kind::Query => Ok(Kind::Explain),
            other => Err(not_supported(format!(
                "explain of {} is not supported; explain its query",
                other.word().replace('_', " ")
            ))),
        },
        Ast::Insert(insert) => classify_insert(insert),
        Ast::CreateTable(create) => classify_create_table(create),
        Ast::CreateView(create) => classify_create_view(create),
        Ast::CreateSchema {
            schema_name,
            if_not_exists,
            ..
        } => {
            let SchemaName::Simple(name) = schema_name else {
                return Err(not_supported("create schema with authorization is not supported"));
            };
            let (project, name) = roles::dataset(name)?;
            Ok(Kind::CreateDataset {
                project,
                name,
                if_not_exists: *if_not_exists,
            })
        }
        Ast::Drop {
            object_type,
            if_exists,
            names,
            cascade,
            ..
        } => classify_drop(*object_type, *if_exists, names, *cascade),
        Ast::Truncate(truncate) => classify_truncate(truncate),
        Ast::Grant(grant) => roles::granted(grant).map(Kind::Grant),
        Ast::Revoke(revoke) => roles::revoked(revoke).map(Kind::Revoke),
        Ast::Set(set) => Err(not_allowed(format!(
            "`{set}` would outlive the query; send it in the request's `settings`, which last for one query"
        ))),
        Ast::Copy { .. } => Err(not_allowed(
            "copy would reach outside the project; load with `wasmhouse load`, export with POST /v1/exports",
        )),
        Ast::Delete(_) | Ast::Update(_) | Ast::Merge(_) => Err(not_supported(
            "delete, update and merge are not supported yet; insert, truncate and create table as are",
        )),
        Ast::Prepare { .. } | Ast::Execute { .. } | Ast::Deallocate { .. } => Err(not_supported(
            "there is no session that would keep a prepared statement; send `params` with the query",
        )),
        Ast::StartTransaction { .. } | Ast::Commit { .. } | Ast::Rollback { .. } => Err(not_supported(
            "every statement is its own transaction; begin, commit and rollback have no meaning here",
        )),
        Ast::CreateFunction(_) | Ast::DropFunction(_) => {
            Err(not_supported("functions of your own are not supported yet"))
        }
        other => Err(not_supported(format!(
            "{} is not supported",
            first_words(&other.to_string())
        ))),
    }
}

fn classify_show(variable: &[Ident]) -> Result<Kind, SqlError> {
    if let Some(shown) = roles::shown(variable) {
        return shown.map(Kind::ShowGrants);
    }
    let parts: Vec<String> = variable.iter().map(|part| part.value.to_lowercase()).collect();
    let name = parts.join(".");
    if name.starts_with("datafusion.runtime") {
        return Err(not_allowed("what a worker may use of its machine is not shown"));
    }
    Ok(Kind::Query)
}

fn classify_insert(insert: &Insert) -> Result<Kind, SqlError> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(not_supported("insert into a function is not supported"));
    };
    if insert.replace_into {
        return Err(not_supported(
            "replace into is not supported, since a table has no keys to find the old rows by; write `insert into`",
        ));
    }
    if let Some(otherwise) = insert.or {
        return Err(not_supported(format!(
            "insert {} is not supported, since a table has no keys to find the old rows by; write `insert into`",
            otherwise.to_string().to_lowercase()
        )));
    }
    if insert.returning.is_some() || insert.on.is_some() {
        return Err(not_supported("insert with returning or on conflict is not supported"));
    }
    Ok(Kind::Insert {
        into: Name::read(name)?,
        overwrite: insert.overwrite,
    })
}

/// Whether some select, other than the outermost one, has an `into`, which the engine would read over.
fn hides_into(query: &Query) -> bool {
    struct Hidden<'a>(Option<&'a Select>);

    impl Visitor for Hidden<'_> {
        type Break = ();

        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            let is_outermost = self.0.is_some_and(|outermost| std::ptr::eq(outermost, select));
            match &select.into {
                Some(_) if !is_outermost => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }

    let outermost = match query.body.as_ref() {
        SetExpr::Select(select) => Some(select.as_ref()),
        _ => None,
    };
    query.visit(&mut Hidden(outermost)).is_break()
}

/// `select … into t` is `create table t as select …`.
fn classify_select_into(into: &SelectInto) -> Result<Kind, SqlError> {
    if into.temporary || into.unlogged {
        return Err(not_supported(
            "select into makes a table that lasts; write `select … into t`",
        ));
    }
    Ok(Kind::CreateTable {
        name: Name::read(&into.name)?,
        if_not_exists: false,
        or_replace: false,
        from_query: true,
    })
}

fn classify_truncate(truncate: &Truncate) -> Result<Kind, SqlError> {
    match truncate.table_names.as_slice() {
        [target]
            if truncate.partitions.is_none()
                && truncate.identity.is_none()
                && truncate.cascade.is_none()
                && truncate.on_cluster.is_none()
                && !target.only =>
        {
            Ok(Kind::Truncate {
                name: Name::read(&target.name)?,
                if_exists: truncate.if_exists,
            })
        }
        _ => Err(not_supported(
            "truncate takes one whole table and nothing else; write `truncate table t`",
        )),
    }
}

fn classify_create_table(create: &CreateTable) -> Result<Kind, SqlError> {
    if create.or_replace && create.if_not_exists {
        return Err(SqlError::new(
            Code::InvalidSql,
            "a table that is there is either replaced or kept; write `or replace` or `if not exists`",
        ));
    }
    if create.temporary {
        return Err(not_supported(
            "there is no session that would keep a temporary table; create one and drop it",
        ));
    }
    if create.external || create.location.is_some() {
        return Err(not_allowed(
            "a table's files live in the project's bucket; a location cannot be chosen",
        ));
    }
    if create.partition_by.is_some() || create.cluster_by.is_some() {
        return Err(not_supported("partition by and cluster by are not supported yet"));
    }
    Ok(Kind::CreateTable {
        name: Name::read(&create.name)?,
        if_not_exists: create.if_not_exists,
        or_replace: create.or_replace,
        from_query: create.query.is_some(),
    })
}

fn classify_create_view(create: &CreateView) -> Result<Kind, SqlError> {
    if create.materialized {
        return Err(not_supported(
            "materialized views are not supported; use create table as",
        ));
    }
    if create.temporary {
        return Err(not_supported(
            "there is no session that would keep a temporary view; use `with`",
        ));
    }
    if let ControlFlow::Break(error) = create.query.visit(&mut Parameters) {
        return Err(error);
    }
    Ok(Kind::CreateView {
        name: Name::read(&create.name)?,
        if_not_exists: create.if_not_exists,
        or_replace: create.or_replace || create.or_alter,
        query: create.query.to_string(),
    })
}

/// Finds the first parameter of a query that would outlive its values.
struct Parameters;

impl Visitor for Parameters {
    type Break = SqlError;

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<SqlError> {
        match &value.value {
            Value::Placeholder(name) => {
                let message = format!("a view cannot keep the parameter {name}; write its value");
                let place = value.span.start;
                ControlFlow::Break(not_supported(message).at(place.line, place.column))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn classify_drop(object: ObjectType, if_exists: bool, names: &[ObjectName], cascade: bool) -> Result<Kind, SqlError> {
    let [name] = names else {
        return Err(not_supported("drop takes one name"));
    };
    match object {
        ObjectType::Table => Ok(Kind::Drop {
            name: Name::read(name)?,
            if_exists,
            view: false,
        }),
        ObjectType::View => Ok(Kind::Drop {
            name: Name::read(name)?,
            if_exists,
            view: true,
        }),
        ObjectType::Schema => {
            let (project, name) = roles::dataset(name)?;
            Ok(Kind::DropDataset {
                project,
                name,
                if_exists,
                cascade,
            })
        }
        other => Err(not_supported(format!(
            "drop {} is not supported",
            other.to_string().to_lowercase()
        ))),
    }
}

fn not_supported(message: impl Into<String>) -> SqlError {
    SqlError::new(Code::NotSupported, message)
}

fn not_allowed(message: impl Into<String>) -> SqlError {
    SqlError::new(Code::NotAllowed, message)
}

/// `ALTER TABLE`, from a statement of that kind.
fn first_words(statement: &str) -> String {
    statement
        .split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}
