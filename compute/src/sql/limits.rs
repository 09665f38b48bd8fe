//! What a statement may weigh before anybody plans it.
//!
//! A few bytes of legal SQL can blow the stack or the clock of a parser or a planner: a chain of 20,000 operators, 100,000
//! types in each other, a doubling cascade of CTEs, 2,000 unions. Each limit stops one such class, on the tokens where that
//! is possible ([`super::shape`]), because a tree that is too deep is dangerous even to drop.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{PipeOperator, Query, Select, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};

use super::shape;
use crate::{Code, SqlError};

/// How much of everything one statement may have.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of text.
    pub text_bytes: usize,
    /// Operators in one unbroken chain such as `1 + 1 + …` or `a = 0 or a = 1 or …`. Planning is quadratic in it.
    pub operators: usize,
    /// Levels of the tree that chains in each other become. One chain alone, of terms that compare, has twice `operators`.
    pub levels: usize,
    /// `union`, `intersect` and `except` in one statement.
    pub set_operations: usize,
    /// Joins in one statement, written as `join` or as a comma.
    pub joins: usize,
    /// Tables read once every CTE and view is written out.
    pub expansions: u64,
    /// Nesting of expressions, subqueries and types.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes: 1 << 20,
            operators: 1000,
            levels: 2500,
            set_operations: 250,
            joins: 100,
            expansions: 1000,
            depth: 50,
        }
    }
}

/// The tokens of `text`, if it is worth parsing.
pub(super) fn tokens(text: &str, dialect: &dyn Dialect, limits: &Limits) -> Result<Vec<TokenWithSpan>, SqlError> {
    if text.len() > limits.text_bytes {
        return Err(too_complex(format!(
            "the statement has {} bytes, more than the {} that one may have; load data from a file instead of writing it into SQL",
            text.len(),
            limits.text_bytes
        )));
    }
    let mut tokens = Tokenizer::new(dialect, text)
        .tokenize_with_location()
        .map_err(|error| {
            SqlError::new(Code::InvalidSql, error.message).at(error.location.line, error.location.column)
        })?;
    // The parser steps over white space again at every look ahead. One piece says as much as a megabyte of it.
    tokens.dedup_by(|next, kept| {
        let both = is_space(&next.token) && is_space(&kept.token);
        // Where lines are counted, in two literals that are one, the end of a line is what counts.
        if both && next.token == Token::Whitespace(Whitespace::Newline) {
            kept.token = next.token.clone();
        }
        both
    });
    check_beginning(&tokens)?;
    shape::check(&tokens, limits)?;
    Ok(tokens)
}

/// Refuses `explain explain …`, for which the parser calls itself without a guard, and `flush`, of which it expects more than
/// there may be.
fn check_beginning(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut leading = true;
    let mut explained = false;
    let mut names_format = false;
    let mut brackets = 0_usize;
    for TokenWithSpan { token, span } in tokens {
        match token {
            Token::Whitespace(_) => {}
            // Options in brackets may stand between the two.
            Token::LParen => brackets += 1,
            Token::RParen => brackets = brackets.saturating_sub(1),
            _ if brackets > 0 => {}
            Token::SemiColon => (leading, explained) = (true, false),
            _ if !leading => {}
            _ if names_format => names_format = false,
            Token::Word(word) => match word.keyword {
                Keyword::EXPLAIN if explained => {
                    let message = "explain of explain is not supported; explain its query";
                    return Err(SqlError::new(Code::NotSupported, message).at(span.start.line, span.start.column));
                }
                Keyword::EXPLAIN => explained = true,
                Keyword::FLUSH => {
                    let message = "flush is not supported";
                    return Err(SqlError::new(Code::NotSupported, message).at(span.start.line, span.start.column));
                }
                Keyword::ANALYZE | Keyword::VERBOSE => {}
                Keyword::FORMAT => names_format = true,
                _ => leading = false,
            },
            _ => leading = false,
        }
    }
    Ok(())
}

/// Refuses a query of more joins than a statement may have, whether they are written as `join` or as a comma.
pub(super) fn check_joins(query: &Query, limits: &Limits) -> Result<(), SqlError> {
    let mut joins = Joins { counted: 0, limits };
    match query.visit(&mut joins) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Counts joins while it walks the tree.
struct Joins<'a> {
    counted: usize,
    limits: &'a Limits,
}

impl Joins<'_> {
    fn add(&mut self, joins: usize) -> ControlFlow<SqlError> {
        self.counted += joins;
        if self.counted > self.limits.joins {
            return ControlFlow::Break(too_many_joins(self.limits));
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Joins<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        let piped = query
            .pipe_operators
            .iter()
            .filter(|operator| matches!(operator, PipeOperator::Join(_)));
        self.add(piped.count())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<SqlError> {
        let commas = select.from.len().saturating_sub(1);
        let joins: usize = select.from.iter().map(|table| table.joins.len()).sum();
        self.add(commas + joins)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<SqlError> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => self.add(table_with_joins.joins.len()),
            _ => ControlFlow::Continue(()),
        }
    }
}

pub(super) fn too_many_joins(limits: &Limits) -> SqlError {
    too_complex(format!("more than {} joins in one statement", limits.joins))
}

pub(super) fn too_complex(message: String) -> SqlError {
    SqlError::new(Code::TooComplex, message)
}

fn is_space(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_))
}
