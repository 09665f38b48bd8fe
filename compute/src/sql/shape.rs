//! The shape of the tree that a statement becomes, told from its tokens before anybody grows it.
//!
//! A tree that is too deep is dangerous even to drop, and the parser guards only some of the functions by which it calls
//! itself. Depth that it does not guard comes from chains of operators, which grow without a call, and from brackets, in
//! which types nest, so both are counted here, with the depth that they make together.
//!
//! # Invariants
//! - A count may be too high and is never too low. Nearly every keyword may also be a name (`1 + from + from`), so a keyword
//!   ends a tree only behind the end of an operand, where the parser cannot take it for a name and go on.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::limits::{Limits, too_complex, too_many_joins};
use crate::{Code, SqlError};

/// How often the parser may have to read what stands in brackets. In a `from` it reads `((select …` twice, since only the
/// end tells whether that is a query or a join in brackets, and again twice for each such place in another.
const READINGS: usize = 64;

/// `interval` that may stand in one operand. The parser calls itself for each without a guard, also with `year` or `(3)` in
/// between, and one is enough for anybody.
const INTERVALS: usize = 4;

/// Words inside an expression behind which an operand follows, which may be called like any keyword.
const BEFORE_AN_OPERAND: &[Keyword] = &[
    Keyword::ALL,
    Keyword::AND,
    Keyword::ANY,
    Keyword::AS,
    Keyword::AT,
    Keyword::BETWEEN,
    Keyword::CASE,
    Keyword::COLLATE,
    Keyword::DISTINCT,
    Keyword::DIV,
    Keyword::ELSE,
    Keyword::ESCAPE,
    Keyword::FROM,
    Keyword::ILIKE,
    Keyword::IN,
    Keyword::INTERVAL,
    Keyword::IS,
    Keyword::LIKE,
    Keyword::MEMBER,
    Keyword::NOT,
    Keyword::OF,
    Keyword::OPERATOR,
    Keyword::OR,
    Keyword::OVER,
    Keyword::OVERLAPS,
    Keyword::PRIOR,
    Keyword::REGEXP,
    Keyword::RLIKE,
    Keyword::SIMILAR,
    Keyword::SOME,
    Keyword::THEN,
    Keyword::TO,
    Keyword::UNNEST,
    Keyword::WHEN,
    Keyword::XOR,
    Keyword::ZONE,
];

/// Refuses tokens that would become a tree of more than `limits` allow.
pub(super) fn check(tokens: &[TokenWithSpan], limits: &Limits) -> Result<(), SqlError> {
    let mut shape = Shape::new(limits);
    for TokenWithSpan { token, span } in tokens {
        shape
            .read(token)
            .map_err(|error| error.at(span.start.line, span.start.column))?;
    }
    Ok(())
}

/// What is open after the tokens that were read.
struct Shape<'a> {
    limits: &'a Limits,
    /// The innermost level.
    here: Level,
    /// Those around it.
    around: Vec<Level>,
    before: Before,
    /// Angle brackets of types, on all levels.
    angles: usize,
    /// `union`, `intersect` and `except` of the whole statement.
    set_operations: usize,
    /// `join` of the whole statement. Some dialects call themselves for each without a guard.
    joins: usize,
    /// `interval` since the last operator or the beginning of a tree.
    intervals: usize,
    /// Brackets in a row, and what was before the first of them.
    brackets: usize,
    before_brackets: Before,
}

/// The statement, or something in it that has its own beginning and end.
#[derive(Clone, Copy)]
struct Level {
    opened: Opened,
    /// Operators since the last thing that began a new tree. Comparisons are counted apart: `a = 0 or` is one term.
    comparisons: usize,
    others: usize,
    /// The depth of the deepest operand of this tree.
    operand: usize,
    /// The depth of the deepest tree that has ended on this level.
    ended: usize,
    /// Operators of the levels around this one, under which all of it hangs.
    above: usize,
    /// Angle brackets of types that are open on this level.
    angles: usize,
    /// How often the parser may have to read this level.
    readings: usize,
}

/// What began a level.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    Statement,
    Bracket,
    /// The brackets of `operator(+)`, which are an operator and not an operand.
    Operator,
    Case,
}

/// The token before the one that is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The end of an operand: a name, a value, a closing bracket.
    Operand,
    /// A keyword, or a name that is spelled like one.
    Word(Keyword),
    Comma,
    Period,
    /// `(`
    Bracket,
    /// Anything else. An operand has to follow.
    Operator,
}

impl<'a> Shape<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            here: Level {
                opened: Opened::Statement,
                comparisons: 0,
                others: 0,
                operand: 0,
                ended: 0,
                above: 0,
                angles: 0,
                readings: 1,
            },
            around: Vec::new(),
            before: Before::Operator,
            angles: 0,
            set_operations: 0,
            joins: 0,
            intervals: 0,
            brackets: 0,
            before_brackets: Before::Operator,
        }
    }

    fn read(&mut self, token: &Token) -> Result<(), SqlError> {
        self.before = match token {
            Token::Whitespace(_) | Token::EOF => return Ok(()),
            Token::Word(word) => self.word(word.keyword)?,
            Token::LParen => self.bracket()?,
            Token::LBracket => {
                // A subscript and the `[]` of a type make the tree in which they stand deeper.
                self.here.others += 1;
                self.open(Opened::Bracket);
                Before::Operator
            }
            Token::LBrace => {
                self.open(Opened::Bracket);
                Before::Operator
            }
            Token::RParen | Token::RBracket | Token::RBrace => self.close_bracket(),
            Token::Comma => {
                self.end_tree();
                Before::Comma
            }
            Token::SemiColon => {
                self.end_tree();
                Before::Operator
            }
            Token::Period => Before::Period,
            Token::Lt => {
                self.compare();
                if matches!(
                    self.before,
                    Before::Word(Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP)
                ) {
                    self.here.angles += 1;
                    self.angles += 1;
                }
                Before::Operator
            }
            Token::Gt => {
                self.compare();
                self.close_angles(1);
                Before::Operator
            }
            Token::ShiftRight => {
                self.operate();
                self.close_angles(2);
                Before::Operator
            }
            Token::Eq | Token::DoubleEq | Token::Neq | Token::LtEq | Token::GtEq | Token::Spaceship => {
                self.compare();
                Before::Operator
            }
            value if is_value(value) => Before::Operand,
            _ => {
                self.operate();
                Before::Operator
            }
        };
        self.check()
    }

    /// A comparison is in the chain.
    fn compare(&mut self) {
        self.here.comparisons += 1;
        self.intervals = 0;
    }

    /// Another operator is.
    fn operate(&mut self) {
        self.here.others += 1;
        self.intervals = 0;
    }

    /// The next operand begins a tree of its own.
    fn end_tree(&mut self) {
        self.here.end_tree();
        self.intervals = 0;
    }

    /// Reads a word, and tells what it is to the next token.
    fn word(&mut self, keyword: Keyword) -> Result<Before, SqlError> {
        if self.before == Before::Period {
            return Ok(Before::Operand);
        }
        let behind_operand = match self.before {
            Before::Operand => true,
            Before::Word(word) => !BEFORE_AN_OPERAND.contains(&word),
            Before::Comma | Before::Period | Before::Bracket | Before::Operator => false,
        };
        let in_case = self.here.opened == Opened::Case;
        match keyword {
            Keyword::CASE => self.open(Opened::Case),
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE if in_case && behind_operand => self.end_tree(),
            Keyword::END if in_case && behind_operand => {
                self.close();
                return Ok(Before::Operand);
            }
            Keyword::JOIN | Keyword::STRAIGHT_JOIN => {
                self.joins += 1;
                if behind_operand {
                    self.end_tree();
                }
            }
            Keyword::SELECT | Keyword::FROM | Keyword::WHERE if behind_operand => self.end_tree(),
            Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS => {
                self.set_operations += 1;
                if behind_operand {
                    self.end_tree();
                }
            }
            Keyword::AND
            | Keyword::OR
            | Keyword::XOR
            | Keyword::IS
            | Keyword::AT
            | Keyword::COLLATE
            | Keyword::DIV
            | Keyword::OPERATOR
            | Keyword::PIVOT
            | Keyword::UNPIVOT => self.operate(),
            Keyword::NOT
            | Keyword::NOTNULL
            | Keyword::IN
            | Keyword::BETWEEN
            | Keyword::OVERLAPS
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::SIMILAR
            | Keyword::MATCH
            | Keyword::MEMBER => self.compare(),
            Keyword::INTERVAL => self.interval()?,
            _ => {}
        }
        if self.before == Before::Bracket {
            self.first_in_brackets(keyword)?;
        }
        Ok(match keyword {
            Keyword::NoKeyword | Keyword::NULL | Keyword::TRUE | Keyword::FALSE => Before::Operand,
            keyword => Before::Word(keyword),
        })
    }

    fn interval(&mut self) -> Result<(), SqlError> {
        self.intervals += 1;
        if self.intervals > INTERVALS {
            return Err(nested());
        }
        Ok(())
    }

    fn bracket(&mut self) -> Result<Before, SqlError> {
        if self.before == Before::Word(Keyword::MATCH_RECOGNIZE) {
            // Its patterns nest in ways of their own, and nobody would run it.
            return Err(SqlError::new(Code::NotSupported, "match_recognize is not supported"));
        }
        if self.before == Before::Bracket {
            self.brackets += 1;
        } else {
            self.brackets = 1;
            self.before_brackets = self.before;
        }
        self.open(match self.before {
            Before::Word(Keyword::OPERATOR) => Opened::Operator,
            _ => Opened::Bracket,
        });
        Ok(Before::Bracket)
    }

    /// The first word in brackets tells whether a query begins there, and what is before them, whether it stands where a
    /// table may. Elsewhere a query in brackets is read once.
    fn first_in_brackets(&mut self, keyword: Keyword) -> Result<(), SqlError> {
        let begins_query = matches!(
            keyword,
            Keyword::SELECT
                | Keyword::WITH
                | Keyword::FROM
                | Keyword::VALUES
                | Keyword::VALUE
                | Keyword::TABLE
                | Keyword::INSERT
                | Keyword::UPDATE
                | Keyword::DELETE
                | Keyword::MERGE
        );
        let may_be_table = matches!(
            self.before_brackets,
            Before::Comma
                | Before::Word(
                    Keyword::FROM
                        | Keyword::JOIN
                        | Keyword::STRAIGHT_JOIN
                        | Keyword::APPLY
                        | Keyword::USING
                        | Keyword::INTO
                        | Keyword::UPDATE
                        | Keyword::DELETE
                        | Keyword::MERGE
                )
        );
        if begins_query && may_be_table {
            self.here.readings = self.here.readings.saturating_mul(self.brackets);
        }
        if self.here.readings > READINGS {
            return Err(nested());
        }
        Ok(())
    }

    fn open(&mut self, opened: Opened) {
        let inner = Level {
            opened,
            comparisons: 0,
            others: 0,
            operand: 0,
            ended: 0,
            above: self.here.above + self.here.operators(),
            angles: 0,
            readings: self.here.readings,
        };
        self.around.push(std::mem::replace(&mut self.here, inner));
    }

    fn close(&mut self) {
        if let Some(outer) = self.around.pop() {
            let inner = std::mem::replace(&mut self.here, outer);
            self.angles -= inner.angles;
            self.here.operand = self.here.operand.max(inner.depth() + 1);
        }
    }

    fn close_bracket(&mut self) -> Before {
        // A `case` that nothing has ended was a name, and ends with the brackets around it.
        while self.here.opened == Opened::Case {
            self.close();
        }
        let opened = self.here.opened;
        self.close();
        match opened {
            Opened::Operator => Before::Operator,
            Opened::Statement | Opened::Bracket | Opened::Case => Before::Operand,
        }
    }

    fn close_angles(&mut self, count: usize) {
        let closed = count.min(self.here.angles);
        self.here.angles -= closed;
        self.angles -= closed;
    }

    fn check(&self) -> Result<(), SqlError> {
        let limits = self.limits;
        if self.around.len() + self.angles > limits.depth {
            return Err(nested());
        }
        if self.here.comparisons > limits.operators || self.here.others > limits.operators {
            return Err(too_complex(format!(
                "more than {} operators in one chain; write `in (…)` for a list of values, or join a table that holds them",
                limits.operators
            )));
        }
        if self.here.above + self.here.operators() + self.here.operand > limits.levels {
            return Err(too_complex(format!(
                "chains of operators in each other make an expression of more than {} levels; use `with` to give parts a name",
                limits.levels
            )));
        }
        if self.joins > limits.joins {
            return Err(too_many_joins(limits));
        }
        if self.set_operations > limits.set_operations {
            return Err(too_complex(format!(
                "more than {} set operations; write `values (…)` or insert the parts into a table",
                limits.set_operations
            )));
        }
        Ok(())
    }
}

impl Level {
    fn operators(&self) -> usize {
        self.comparisons + self.others
    }

    fn depth(&self) -> usize {
        self.ended.max(self.operators() + self.operand)
    }

    fn end_tree(&mut self) {
        self.ended = self.depth();
        self.comparisons = 0;
        self.others = 0;
        self.operand = 0;
    }
}

/// A literal or a parameter.
pub(super) fn is_value(token: &Token) -> bool {
    matches!(
        token,
        Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::QuoteDelimitedStringLiteral(_)
            | Token::NationalQuoteDelimitedStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
    )
}

fn nested() -> SqlError {
    too_complex("expressions or subqueries are nested too deeply; use `with` to give parts a name".to_owned())
}
