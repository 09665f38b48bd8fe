//! The one place where SQL text becomes a statement.
//!
//! # Invariants
//! - A [`Statement`] is within [`Limits`], is one statement, and is of a kind that a tenant may send.
//! - It has not been planned: nothing is known of the types of its columns.

use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{CreateTable, Insert, ObjectName, Query, Statement as Ast};

use super::blame;
use super::classify::{Kind, classify};
use super::dialect::PatientDialect;
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

/// Reads `text` as one statement within `limits`.
pub fn parse(text: &str, limits: &Limits) -> Result<Statement, SqlError> {
    let parsed = parse_one(text, limits)?;
    let kind = classify(&parsed)?;
    let reads = reads(&parsed, limits)?;
    let lists_names = reads.iter().any(|mention| mention.name.is_information_schema()) || shows_names(&parsed);
    Ok(Statement {
        text: text.to_owned(),
        kind,
        reads,
        lists_names,
    })
}

fn parse_one(text: &str, limits: &Limits) -> Result<Parsed, SqlError> {
    let tokens = limits::tokens(text, limits)?;
    let dialect = PatientDialect::new(tokens.len());
    let parsed = DFParserBuilder::new(tokens)
        .with_dialect(&dialect)
        .with_recursion_limit(limits.depth)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    if let Some(error) = dialect.gave_up() {
        return Err(error);
    }
    let mut statements = parsed.map_err(|error| blame::sql_error(&error).or_at_end_of(text))?;
    match (statements.pop_front(), statements.len()) {
        (Some(parsed), 0) => Ok(parsed),
        (None, _) => Err(SqlError::new(Code::InvalidSql, "the statement is empty")),
        (Some(_), more) => Err(SqlError::new(
            Code::InvalidSql,
            format!("{} statements in one request; send them one by one", more + 1),
        )),
    }
}

/// What the statement reads: its query, not the name it creates or fills.
fn reads(parsed: &Parsed, limits: &Limits) -> Result<Vec<Mention>, SqlError> {
    match parsed {
        Parsed::Explain(explain) => reads(&explain.statement, limits),
        Parsed::Statement(ast) => reads_of(ast, limits),
        _ => Ok(Vec::new()),
    }
}

fn reads_of(ast: &Ast, limits: &Limits) -> Result<Vec<Mention>, SqlError> {
    match ast {
        Ast::Query(query) => reads_of_query(query, limits),
        Ast::Insert(Insert {
            source: Some(query), ..
        })
        | Ast::CreateTable(CreateTable { query: Some(query), .. }) => reads_of_query(query, limits),
        Ast::CreateView(create) => reads_of_query(&create.query, limits),
        Ast::Explain { statement, .. } => reads_of(statement, limits),
        Ast::ExplainTable { table_name, .. } => once(table_name),
        Ast::ShowCreate { obj_name, .. } => once(obj_name),
        Ast::ShowColumns { show_options, .. } => {
            match show_options.show_in.as_ref().and_then(|show| show.parent_name.as_ref()) {
                Some(name) => once(name),
                None => Ok(Vec::new()),
            }
        }
        _ => Ok(Vec::new()),
    }
}

fn reads_of_query(query: &Query, limits: &Limits) -> Result<Vec<Mention>, SqlError> {
    limits::check_joins(query, limits)?;
    names::mentions(query, limits)
}

fn once(name: &ObjectName) -> Result<Vec<Mention>, SqlError> {
    Ok(vec![Mention {
        name: Name::read(name)?,
        uses: 1,
    }])
}

/// True for the `show` statements, which read the catalog rather than a table.
fn shows_names(parsed: &Parsed) -> bool {
    match parsed {
        Parsed::Explain(explain) => shows_names(&explain.statement),
        Parsed::Statement(ast) => matches!(
            ast.as_ref(),
            Ast::ShowTables { .. } | Ast::ShowColumns { .. } | Ast::ShowCreate { .. } | Ast::ShowFunctions { .. }
        ),
        _ => false,
    }
}
