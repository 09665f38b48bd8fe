//! A dialect, read with a patience that ends.
//!
//! Where a word may be a keyword or a name, the parser tries both and so reads what is behind it twice: behind forty times
//! `cast(` that is 2^40 times. Every such reading begins an expression, and before each expression the parser asks its
//! dialect, so the dialect counts: how often each place was read, and how many were read in all. What is read again without
//! an expression in it, brackets in a `from`, is bounded by [`super::shape`].
//!
//! # Invariants
//! - Gateway and worker both read with this, so nothing is parsed differently there than here.
//! - Every question is answered as the dialect itself answers it, also the question which dialect it is, but for one:
//!   arguments with any expression as their name are not read, because each argument would be read twice.
//! - Once patience has ended no expression can be read, so the parser comes home without trying anything else.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::iter::Peekable;
use std::str::Chars;

use datafusion::sql::sqlparser::ast::{ColumnOption, Expr, GranteesType, Ident, ObjectNamePart, Statement};
use datafusion::sql::sqlparser::dialect::{Dialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
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

/// A dialect, for one statement.
#[derive(Debug)]
pub(super) struct PatientDialect {
    dialect: Box<dyn Dialect>,
    /// How often the parser has read an expression here, by the index of a token.
    places: RefCell<Vec<u8>>,
    readings_left: Cell<usize>,
    /// The line and column where patience ended.
    ended_at: Cell<Option<(u64, u64)>>,
}

impl PatientDialect {
    /// `dialect`, for a statement of so many tokens.
    pub(super) fn new(dialect: Box<dyn Dialect>, tokens: usize) -> Self {
        Self {
            dialect,
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
macro_rules! as_the_dialect {
    ($($question:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $question(&self, $($argument: $type),*) -> $answer {
            self.dialect.$question($($argument),*)
        })*
    };
}

/// Questions that are passed on and answered with yes or no.
macro_rules! whether_as_the_dialect {
    ($($question:ident)*) => {
        $(fn $question(&self) -> bool {
            self.dialect.$question()
        })*
    };
}

impl Dialect for PatientDialect {
    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        if self.may_read(parser) {
            self.dialect.parse_prefix(parser)
        } else {
            Some(Err(ParserError::RecursionLimitExceeded))
        }
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    // Everything else that a dialect can be asked.
    as_the_dialect! {
        dialect() -> TypeId;
        get_next_precedence(parser: &Parser<'_>) -> Option<Result<u8, ParserError>>;
        get_next_precedence_default(parser: &Parser<'_>) -> Result<u8, ParserError>;
        get_reserved_grantees_types() -> &[GranteesType];
        get_reserved_keywords_for_select_item_operator() -> &[Keyword];
        identifier_quote_style(identifier: &str) -> Option<char>;
        is_column_alias(keyword: &Keyword, parser: &mut Parser<'_>) -> bool;
        is_custom_operator_part(ch: char) -> bool;
        is_delimited_identifier_start(ch: char) -> bool;
        is_identifier_generating_function_name(name: &Ident, parts: &[ObjectNamePart]) -> bool;
        is_identifier_part(ch: char) -> bool;
        is_identifier_start(ch: char) -> bool;
        is_nested_delimited_identifier_start(ch: char) -> bool;
        is_reserved_for_identifier(keyword: Keyword) -> bool;
        is_select_item_alias(explicit: bool, keyword: &Keyword, parser: &mut Parser<'_>) -> bool;
        is_table_alias(keyword: &Keyword, parser: &mut Parser<'_>) -> bool;
        is_table_factor(keyword: &Keyword, parser: &mut Parser<'_>) -> bool;
        is_table_factor_alias(explicit: bool, keyword: &Keyword, parser: &mut Parser<'_>) -> bool;
        parse_column_option(
            parser: &mut Parser<'_>
        ) -> Result<Option<Result<Option<ColumnOption>, ParserError>>, ParserError>;
        parse_infix(parser: &mut Parser<'_>, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>>;
        parse_statement(parser: &mut Parser<'_>) -> Option<Result<Statement, ParserError>>;
        peek_nested_delimited_identifier_quotes(chars: Peekable<Chars<'_>>) -> Option<(char, Option<char>)>;
        prec_unknown() -> u8;
        prec_value(precedence: Precedence) -> u8;
    }

    whether_as_the_dialect! {
        allow_extract_custom
        allow_extract_single_quotes
        convert_type_before_value
        describe_requires_table_keyword
        ignores_wildcard_escapes
        require_interval_qualifier
        requires_single_line_comment_whitespace
        support_map_literal_syntax
        supports_alter_column_type_using
        supports_array_join_syntax
        supports_array_typedef_with_brackets
        supports_array_typedef_without_element_type
        supports_asc_desc_in_column_definition
        supports_bang_not_operator
        supports_binary_kw_as_cast
        supports_bitwise_shift_operators
        supports_boolean_literals
        supports_column_definition_trailing_commas
        supports_comma_separated_drop_column_list
        supports_comma_separated_set_assignments
        supports_comma_separated_trim
        supports_comment_on
        supports_comment_optimizer_hint
        supports_connect_by
        supports_constraint_keyword_without_name
        supports_create_index_with_clause
        supports_create_table_like_parenthesized
        supports_create_table_multi_schema_info_sources
        supports_create_table_select
        supports_create_table_using
        supports_create_view_comment_syntax
        supports_cross_join_constraint
        supports_cte_without_as
        supports_data_type_signed_suffix
        supports_detach
        supports_dictionary_syntax
        supports_dollar_as_money_prefix
        supports_dollar_placeholder
        supports_double_ampersand_operator
        supports_empty_projections
        supports_end_transaction_modifier
        supports_eq_alias_assignment
        supports_execute_immediate
        supports_explain_with_utility_options
        supports_extract_comma_syntax
        supports_factorial_operator
        supports_filter_during_aggregation
        supports_from_first_insert
        supports_from_first_select
        supports_from_trailing_commas
        supports_geometric_types
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_in_empty_list
        supports_insert_format
        supports_insert_set
        supports_insert_table_alias
        supports_insert_table_function
        supports_insert_table_query
        supports_install
        supports_interpolate
        supports_interval_options
        supports_key_column_option
        supports_lambda_functions
        supports_left_associative_joins_without_parens
        supports_limit_by
        supports_limit_comma
        supports_listen_notify
        supports_load_data
        supports_load_extension
        supports_long_type_as_bigint
        supports_map_literal_with_angle_brackets
        supports_match_against
        supports_match_recognize
        supports_multiline_comment_hints
        supports_named_fn_args_with_assignment_operator
        supports_named_fn_args_with_colon_operator
        supports_named_fn_args_with_eq_operator
        supports_named_fn_args_with_rarrow_operator
        supports_nested_comments
        supports_notnull_operator
        supports_numeric_literal_underscores
        supports_numeric_prefix
        supports_object_name_double_dot_notation
        supports_optimize_table
        supports_order_by_all
        supports_outer_join_operator
        supports_parens_around_table_factor
        supports_parenthesized_set_variables
        supports_partiql
        supports_partition_by_after_order_by
        supports_pipe_operator
        supports_prewhere
        supports_projection_trailing_commas
        supports_quote_delimited_string
        supports_select_exclude
        supports_select_expr_star
        supports_select_format
        supports_select_item_multi_column_alias
        supports_select_modifiers
        supports_select_wildcard_except
        supports_select_wildcard_exclude
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_select_wildcard_replace
        supports_select_wildcard_with_alias
        supports_semantic_view_table_factor
        supports_set_names
        supports_set_stmt_without_operator
        supports_settings
        supports_show_like_before_in
        supports_space_separated_column_options
        supports_start_transaction_modifier
        supports_string_escape_constant
        supports_string_literal_backslash_escape
        supports_string_literal_concatenation
        supports_string_literal_concatenation_with_newline
        supports_struct_literal
        supports_subquery_as_function_arg
        supports_table_hints
        supports_table_sample_before_alias
        supports_table_versioning
        supports_top_before_distinct
        supports_trailing_commas
        supports_triple_quoted_string
        supports_try_convert
        supports_unicode_string_literal
        supports_update_order_by
        supports_user_host_grantee
        supports_values_as_table_factor
        supports_window_clause_named_window_reference
        supports_window_function_null_treatment_arg
        supports_with_fill
        supports_within_after_array_aggregation
        supports_xml_expressions
    }
}
