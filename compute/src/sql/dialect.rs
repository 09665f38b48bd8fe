//! The generic dialect, read with a patience that ends.
//!
//! Where a word may be a keyword or a name, the parser tries both and so reads what is behind it twice: behind forty times
//! `cast(` that is 2^40 times. Every such reading begins an expression, and before each expression the parser asks its
//! dialect, so the dialect counts: how often each place was read, and how many were read in all. What is read again without
//! an expression in it, brackets in a `from`, is bounded by [`super::shape`].
//!
//! # Invariants
//! - Every question is answered as [`GenericDialect`] answers it, and to the question which dialect it is it says that one,
//!   so nothing is parsed differently here than in the worker.
//! - Once patience has ended no expression can be read, so the parser comes home without trying anything else.

use std::any::TypeId;
use std::cell::{Cell, RefCell};

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

use super::limits::too_complex;
use crate::SqlError;

/// How often the parser may read one place. An ordinary statement has it read once or twice; a mistake inside seven casts in
/// each other, 128 times.
const READINGS_OF_A_PLACE: u8 = 200;

/// How many readings a statement has for each of its tokens, of which at most every second begins an expression.
const READINGS_OF_A_TOKEN: usize = 2;

/// Readings that a statement has however short it is, so that a mistake in a small one is still found and told.
const READINGS_AT_LEAST: usize = 20_000;

/// [`GenericDialect`], for one statement.
#[derive(Debug)]
pub(super) struct PatientDialect {
    /// How often the parser has read an expression here, by the index of a token.
    places: RefCell<Vec<u8>>,
    readings_left: Cell<usize>,
    /// The line and column where patience ended.
    ended_at: Cell<Option<(u64, u64)>>,
}

impl PatientDialect {
    /// For a statement of so many tokens.
    pub(super) fn new(tokens: usize) -> Self {
        Self {
            places: RefCell::new(vec![0; tokens + 1]),
            readings_left: Cell::new(READINGS_OF_A_TOKEN * tokens + READINGS_AT_LEAST),
            ended_at: Cell::new(None),
        }
    }

    /// Why the parser was stopped, if it was. What it says itself means nothing then.
    pub(super) fn gave_up(&self) -> Option<SqlError> {
        let (line, column) = self.ended_at.get()?;
        let message = "this cannot be read in a reasonable time; nest functions and subqueries less deeply, or look for a \
            mistake inside them";
        Some(too_complex(message.to_owned()).at(line, column))
    }

    /// Counts one more expression at the parser's place. False when that is one too many.
    fn may_read(&self, parser: &Parser<'_>) -> bool {
        if self.ended_at.get().is_some() {
            return false;
        }
        let mut places = self.places.borrow_mut();
        // Behind the last token nothing can be read, however often it is tried.
        let Some(readings) = places.get_mut(parser.get_current_index()) else {
            return true;
        };
        let left = self.readings_left.get();
        if *readings == READINGS_OF_A_PLACE || left == 0 {
            let place = parser.peek_token_ref().span.start;
            self.ended_at.set(Some((place.line, place.column)));
            return false;
        }
        *readings += 1;
        self.readings_left.set(left - 1);
        true
    }
}

/// Questions that are passed on.
macro_rules! as_the_generic_dialect {
    ($($question:ident)*) => {
        $(fn $question(&self) -> bool {
            GenericDialect.$question()
        })*
    };
}

impl Dialect for PatientDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        if self.may_read(parser) {
            None
        } else {
            Some(Err(ParserError::RecursionLimitExceeded))
        }
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }

    // Those that `GenericDialect` answers itself. The others it leaves to the trait, and so do we.
    as_the_generic_dialect! {
        allow_extract_custom
        allow_extract_single_quotes
        support_map_literal_syntax
        supports_array_join_syntax
        supports_array_typedef_with_brackets
        supports_asc_desc_in_column_definition
        supports_bitwise_shift_operators
        supports_comma_separated_set_assignments
        supports_comma_separated_trim
        supports_comment_on
        supports_comment_optimizer_hint
        supports_connect_by
        supports_constraint_keyword_without_name
        supports_create_index_with_clause
        supports_create_view_comment_syntax
        supports_cte_without_as
        supports_data_type_signed_suffix
        supports_detach
        supports_dictionary_syntax
        supports_empty_projections
        supports_explain_with_utility_options
        supports_extract_comma_syntax
        supports_filter_during_aggregation
        supports_from_first_select
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_install
        supports_interpolate
        supports_interval_options
        supports_key_column_option
        supports_left_associative_joins_without_parens
        supports_limit_by
        supports_limit_comma
        supports_load_extension
        supports_match_against
        supports_match_recognize
        supports_multiline_comment_hints
        supports_named_fn_args_with_assignment_operator
        supports_nested_comments
        supports_optimize_table
        supports_parens_around_table_factor
        supports_parenthesized_set_variables
        supports_partition_by_after_order_by
        supports_pipe_operator
        supports_prewhere
        supports_projection_trailing_commas
        supports_quote_delimited_string
        supports_select_format
        supports_select_item_multi_column_alias
        supports_select_wildcard_except
        supports_select_wildcard_exclude
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_select_wildcard_replace
        supports_set_names
        supports_settings
        supports_start_transaction_modifier
        supports_string_escape_constant
        supports_struct_literal
        supports_try_convert
        supports_unicode_string_literal
        supports_update_order_by
        supports_user_host_grantee
        supports_values_as_table_factor
        supports_window_clause_named_window_reference
        supports_window_function_null_treatment_arg
        supports_with_fill
        supports_xml_expressions
    }
}
