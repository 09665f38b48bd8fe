//! The one place where SQL text becomes a statement.
//!
//! # Invariants
//! - A [`Statement`] is within [`Limits`], is one statement, and is of a kind that a tenant may send.
//! - It has not been planned: nothing is known of the types of its columns.

use datafusion::config::Dialect;
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{CreateTable, CreateView, Insert, ObjectName, Query, Statement as Ast};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::blame;
use super::classify::{Kind, classify};
use super::dialect::rules;
use super::frames;
use super::keys;
use super::likeness;
use super::limits::{self, Limits};
use super::names::{self, Mention, Name};
use super::patience::PatientDialect;
use super::placeholders;
use super::unread;
use crate::{Code, SqlError};

/// One statement that a tenant may send.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The text as it was sent.
    pub text: String,
    /// What it is written in.
    pub dialect: Dialect,
    /// What it does.
    pub kind: Kind,
    /// The tables and views it reads.
    pub reads: Vec<Mention>,
    /// True when it asks for the names themselves: `information_schema`, `show tables`.
    pub lists_names: bool,
    /// The same for statements that differ in values only; see [`super::likeness`].
    pub likeness: u64,
}

/// Reads `text` as one statement of `dialect` within `limits`.
pub fn parse(text: &str, dialect: Dialect, limits: &Limits) -> Result<Statement, SqlError> {
    let tokens = limits::tokens(text, rules(dialect).as_ref(), limits)?;
    let likeness = likeness::of(&tokens);
    let parsed = read_tokens(text, tokens, dialect, limits)?;
    let mut kind = classify(&parsed)?;
    if let (Kind::CreateView { query, .. }, Parsed::Statement(ast)) = (&mut kind, &parsed)
        && let Ast::CreateView(create) = ast.as_ref()
    {
        *query = view_query(text, create, dialect, limits)?;
    }
    let reads = reads(&parsed, limits)?;
    let lists_names = reads.iter().any(|mention| mention.name.is_information_schema()) || shows_names(&parsed);
    Ok(Statement {
        text: text.to_owned(),
        dialect,
        kind,
        reads,
        lists_names,
        likeness,
    })
}

/// The tree of one statement, as gateway and worker read it.
pub(crate) fn read(text: &str, dialect: Dialect, limits: &Limits) -> Result<Parsed, SqlError> {
    let tokens = limits::tokens(text, rules(dialect).as_ref(), limits)?;
    read_tokens(text, tokens, dialect, limits)
}

fn read_tokens(text: &str, tokens: Vec<TokenWithSpan>, dialect: Dialect, limits: &Limits) -> Result<Parsed, SqlError> {
    let dialect = PatientDialect::new(rules(dialect), tokens.len());
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
        (Some(mut parsed), 0) => {
            if let Some(ast) = statement_of(&mut parsed) {
                unread::write_out(ast);
                frames::say(ast);
                placeholders::bracket(ast);
                unread::check(ast)?;
                keys::check(ast)?;
            }
            Ok(parsed)
        }
        (None, _) => Err(SqlError::new(Code::InvalidSql, "the statement is empty")),
        (Some(_), more) => Err(SqlError::new(
            Code::InvalidSql,
            format!("{} statements in one request; send them one by one", more + 1),
        )),
    }
}

/// The statement itself, also inside of `explain`.
fn statement_of(parsed: &mut Parsed) -> Option<&mut Ast> {
    match parsed {
        Parsed::Explain(explain) => statement_of(&mut explain.statement),
        Parsed::Statement(ast) => Some(ast),
        _ => None,
    }
}

/// The query that a view keeps: the text behind `as`, since a tree that is printed does not always read as it was written.
fn view_query(text: &str, create: &CreateView, dialect: Dialect, limits: &Limits) -> Result<String, SqlError> {
    let written = behind_as(text, dialect, limits)?;
    let printed = create.query.to_string();
    let reads_the_same =
        written.filter(|written| read(written, dialect, limits).is_ok_and(|query| query.to_string() == printed));
    let query = reads_the_same.ok_or_else(|| {
        let message = "the query of this view cannot be kept as it is written; write `create view name as select …`";
        SqlError::new(Code::NotSupported, message)
    })?;
    if create.columns.is_empty() {
        return Ok(query.to_owned());
    }
    let columns: Vec<String> = create.columns.iter().map(|column| column.name.to_string()).collect();
    // The query may end in a comment.
    Ok(format!("select * from ({query}\n) as named({})", columns.join(", ")))
}

/// What stands behind the first `as` that is in no brackets, up to the end of the statement.
fn behind_as<'a>(text: &'a str, dialect: Dialect, limits: &Limits) -> Result<Option<&'a str>, SqlError> {
    let mut depth = 0_usize;
    let mut begin = None;
    for TokenWithSpan { token, span } in limits::tokens(text, rules(dialect).as_ref(), limits)? {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(word) if word.keyword == Keyword::AS && depth == 0 && begin.is_none() => {
                begin = offset(text, span.end);
            }
            Token::SemiColon if depth == 0 => {
                let end = offset(text, span.start);
                return Ok(begin.zip(end).map(|(begin, end)| text[begin..end].trim()));
            }
            _ => {}
        }
    }
    Ok(begin.map(|begin| text[begin..].trim()))
}

/// Where in the text a place is; lines and columns count from 1, columns in characters.
fn offset(text: &str, place: Location) -> Option<usize> {
    let (line, column) = (usize::try_from(place.line).ok()?, usize::try_from(place.column).ok()?);
    let before: usize = text
        .split_inclusive('\n')
        .take(line.checked_sub(1)?)
        .map(str::len)
        .sum();
    let rest = &text[before..];
    let in_line = rest
        .char_indices()
        .map(|(at, _)| at)
        .chain([rest.len()])
        .nth(column.checked_sub(1)?)?;
    Some(before + in_line)
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
