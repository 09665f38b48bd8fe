//! The one place where SQL text becomes a statement.
//!
//! # Invariants
//! - A [`Statement`] is within [`Limits`], is one statement, and is of a kind that a tenant may send.
//! - It has not been planned: nothing is known of the types of its columns.

use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    CreateTable, CreateView, Insert, ObjectName, ObjectType, SchemaName, SetExpr, Statement as Ast, TableObject,
};

use super::blame;
use super::limits::{self, Limits};
use super::names::{self, Mention, Name};
use crate::{Code, SqlError};

/// One statement that a tenant may send.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The text as it was sent.
    pub text: String,
    /// What it does.
    pub kind: Kind,
    /// The tables and views it reads.
    pub reads: Vec<Mention>,
    /// True when it asks for the names themselves: `information_schema`, `show tables`.
    pub lists_names: bool,
}

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
        }
    }
}

/// Reads `text` as one statement within `limits`.
pub fn parse(text: &str, limits: &Limits) -> Result<Statement, SqlError> {
    let tokens = limits::tokens(text, limits)?;
    let mut statements = DFParserBuilder::new(tokens)
        .with_recursion_limit(limits.depth)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| blame::sql_error(&error).or_at_end_of(text))?;
    let parsed = match (statements.pop_front(), statements.len()) {
        (Some(parsed), 0) => parsed,
        (None, _) => return Err(SqlError::new(Code::InvalidSql, "the statement is empty")),
        (Some(_), more) => {
            return Err(SqlError::new(
                Code::InvalidSql,
                format!("{} statements in one request; send them one by one", more + 1),
            ));
        }
    };
    let kind = classify(&parsed)?;
    let reads = reads(&parsed, &kind)?;
    let expanded: u64 = reads.iter().fold(0, |sum, mention| sum.saturating_add(mention.uses));
    if expanded > limits.expansions {
        return Err(limits::too_complex(format!(
            "the statement reads {expanded} tables once its CTEs are written out, more than the {} it may",
            limits.expansions
        )));
    }
    let lists_names = reads.iter().any(|mention| mention.name.is_information_schema()) || shows_names(&parsed);
    Ok(Statement {
        text: text.to_owned(),
        kind,
        reads,
        lists_names,
    })
}

/// What the statement does, or why a tenant may not.
fn classify(parsed: &Parsed) -> Result<Kind, SqlError> {
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
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => Err(not_supported(
                "a statement that changes rows inside a query is not supported",
            )),
            _ => Ok(Kind::Query),
        },
        Ast::ShowTables { .. }
        | Ast::ShowColumns { .. }
        | Ast::ShowFunctions { .. }
        | Ast::ShowCreate { .. }
        | Ast::ShowVariable { .. }
        | Ast::ShowVariables { .. }
        | Ast::ShowSchemas { .. }
        | Ast::ShowDatabases { .. }
        | Ast::ExplainTable { .. } => Ok(Kind::Query),
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
            let (project, name) = dataset_name(name)?;
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
        Ast::Truncate(truncate) => match truncate.table_names.as_slice() {
            [target] if truncate.partitions.is_none() => Ok(Kind::Truncate {
                name: Name::read(&target.name)?,
                if_exists: truncate.if_exists,
            }),
            _ => Err(not_supported("truncate takes one whole table")),
        },
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

fn classify_insert(insert: &Insert) -> Result<Kind, SqlError> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(not_supported("insert into a function is not supported"));
    };
    if insert.returning.is_some() || insert.on.is_some() {
        return Err(not_supported("insert with returning or on conflict is not supported"));
    }
    Ok(Kind::Insert {
        into: Name::read(name)?,
        overwrite: insert.overwrite,
    })
}

fn classify_create_table(create: &CreateTable) -> Result<Kind, SqlError> {
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
    let query = if create.columns.is_empty() {
        create.query.to_string()
    } else {
        let columns: Vec<String> = create.columns.iter().map(|column| column.name.to_string()).collect();
        format!("select * from ({}) as named({})", create.query, columns.join(", "))
    };
    Ok(Kind::CreateView {
        name: Name::read(&create.name)?,
        if_not_exists: create.if_not_exists,
        or_replace: create.or_replace || create.or_alter,
        query,
    })
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
            let (project, name) = dataset_name(name)?;
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

/// `dataset` or `project.dataset`.
fn dataset_name(name: &ObjectName) -> Result<(Option<String>, String), SqlError> {
    let read = Name::read(name)?;
    match (read.project, read.dataset) {
        (None, project) => Ok((project, read.table)),
        (Some(_), _) => Err(SqlError::new(
            Code::InvalidSql,
            format!("{name} has too many parts; a schema is project.dataset"),
        )
        .at(read.line, read.column)),
    }
}

/// What the statement reads: its query, not the name it creates or fills.
fn reads(parsed: &Parsed, kind: &Kind) -> Result<Vec<Mention>, SqlError> {
    match (parsed, kind) {
        (Parsed::Explain(explain), _) => reads(&explain.statement, &Kind::Query),
        (Parsed::Statement(ast), _) => match ast.as_ref() {
            Ast::Insert(Insert {
                source: Some(query), ..
            })
            | Ast::CreateTable(CreateTable { query: Some(query), .. }) => names::mentions(&Ast::Query(query.clone())),
            Ast::CreateView(create) => names::mentions(&Ast::Query(create.query.clone())),
            Ast::Explain { statement, .. } => names::mentions(statement),
            Ast::ExplainTable { table_name, .. } => Ok(vec![Mention {
                name: Name::read(table_name)?,
                uses: 1,
            }]),
            Ast::ShowColumns { show_options, .. } => {
                match show_options.show_in.as_ref().and_then(|show| show.parent_name.as_ref()) {
                    Some(name) => Ok(vec![Mention {
                        name: Name::read(name)?,
                        uses: 1,
                    }]),
                    None => Ok(Vec::new()),
                }
            }
            Ast::ShowCreate { obj_name, .. } => Ok(vec![Mention {
                name: Name::read(obj_name)?,
                uses: 1,
            }]),
            query @ Ast::Query(_) => names::mentions(query),
            _ => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}

/// True for the `show` statements, which read the catalog rather than a table.
fn shows_names(parsed: &Parsed) -> bool {
    match parsed {
        Parsed::Explain(explain) => shows_names(&explain.statement),
        Parsed::Statement(ast) => matches!(
            ast.as_ref(),
            Ast::ShowTables { .. }
                | Ast::ShowSchemas { .. }
                | Ast::ShowDatabases { .. }
                | Ast::ShowColumns { .. }
                | Ast::ShowCreate { .. }
                | Ast::ShowFunctions { .. }
        ),
        _ => false,
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
