//! What a statement may weigh before anybody plans it.
//!
//! A few bytes of legal SQL can blow the stack or the clock of a planner: a chain of 20,000 operators, a doubling cascade
//! of CTEs, 2,000 unions. Each limit stops one such class, on the tokens where that is possible, because a tree that is
//! too deep is dangerous even to drop.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::{Code, SqlError};

/// How much of everything one statement may have.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of text.
    pub text_bytes: usize,
    /// Operators in one unbroken chain such as `1 + 1 + …` or `a = 0 or a = 1 or …`. Planning is quadratic in it.
    pub operators: usize,
    /// `union`, `intersect` and `except` in one statement.
    pub set_operations: usize,
    /// Joins in one statement, written as `join` or as a comma.
    pub joins: usize,
    /// Tables read once every CTE and view is written out.
    pub expansions: u64,
    /// Nesting of expressions and subqueries.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes: 1 << 20,
            operators: 1000,
            set_operations: 250,
            joins: 100,
            expansions: 1000,
            depth: 50,
        }
    }
}

/// The tokens of `text`, if it is worth parsing.
pub(super) fn tokens(text: &str, limits: &Limits) -> Result<Vec<TokenWithSpan>, SqlError> {
    if text.len() > limits.text_bytes {
        return Err(too_complex(format!(
            "the statement has {} bytes, more than the {} that one may have; load data from a file instead of writing it into SQL",
            text.len(),
            limits.text_bytes
        )));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize_with_location()
        .map_err(|error| {
            SqlError::new(Code::InvalidSql, error.message).at(error.location.line, error.location.column)
        })?;
    check_chains(&tokens, limits)?;
    Ok(tokens)
}

/// Counts operators that could become one deep tree: those at one level of parentheses since the last comma or clause.
fn check_chains(tokens: &[TokenWithSpan], limits: &Limits) -> Result<(), SqlError> {
    let mut levels: Vec<Chain> = vec![Chain::default()];
    let mut set_operations = 0;
    let mut joins = 0;

    for TokenWithSpan { token, span } in tokens {
        let here = levels.last_mut().expect("the outermost level is never popped");
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                // A subscript or a call continues the chain it stands in.
                here.others += usize::from(matches!(token, Token::LBracket));
                levels.push(Chain::default());
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if levels.len() > 1 {
                    levels.pop();
                }
            }
            Token::Comma | Token::SemiColon => *here = Chain::default(),
            Token::Word(word) => match word.keyword {
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS => {
                    set_operations += 1;
                    *here = Chain::default();
                }
                Keyword::JOIN => {
                    joins += 1;
                    *here = Chain::default();
                }
                Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::WHEN | Keyword::THEN | Keyword::ELSE => {
                    *here = Chain::default();
                }
                Keyword::AND | Keyword::OR | Keyword::XOR | Keyword::IS | Keyword::COLLATE | Keyword::AT => {
                    here.others += 1
                }
                Keyword::LIKE | Keyword::ILIKE | Keyword::IN | Keyword::BETWEEN | Keyword::NOT => here.comparisons += 1,
                _ => {}
            },
            Token::Eq
            | Token::DoubleEq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Spaceship => {
                here.comparisons += 1;
            }
            Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::Mul
            | Token::EOF => {
                here.others += usize::from(matches!(token, Token::Mul));
            }
            _ => here.others += 1,
        }
        let here = levels.last().expect("the outermost level is never popped");
        let (line, column) = (span.start.line, span.start.column);
        if here.comparisons > limits.operators || here.others > limits.operators {
            return Err(too_complex(format!(
                "more than {} operators in one chain; write `in (…)` for a list of values, or join a table that holds them",
                limits.operators
            ))
            .at(line, column));
        }
        if set_operations > limits.set_operations {
            return Err(too_complex(format!(
                "more than {} set operations; write `values (…)` or insert the parts into a table",
                limits.set_operations
            ))
            .at(line, column));
        }
        if joins > limits.joins {
            return Err(too_complex(format!("more than {} joins in one statement", limits.joins)).at(line, column));
        }
    }
    Ok(())
}

/// Operators since the last thing that starts a new tree. Comparisons are counted apart, since `a = 0 or` is one term.
#[derive(Default)]
struct Chain {
    comparisons: usize,
    others: usize,
}

pub(super) fn too_complex(message: String) -> SqlError {
    SqlError::new(Code::TooComplex, message)
}
