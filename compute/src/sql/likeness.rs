//! Which statements are alike: those that differ in values, spaces, comments and the case of their words, and nothing else.

use std::hash::{DefaultHasher, Hash, Hasher};

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::shape::is_value;

/// The same number for statements that are alike, in this process.
pub(super) fn of(tokens: &[TokenWithSpan]) -> u64 {
    let mut hasher = DefaultHasher::new();
    // A list of values is like a longer one.
    let mut is_behind_value = false;
    let mut commas = 0_u32;
    for TokenWithSpan { token, .. } in tokens {
        match token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::Comma if is_behind_value => commas += 1,
            token if is_value(token) => {
                if !(is_behind_value && commas == 1) {
                    commas.hash(&mut hasher);
                    "value".hash(&mut hasher);
                }
                commas = 0;
                is_behind_value = true;
            }
            token => {
                commas.hash(&mut hasher);
                commas = 0;
                is_behind_value = false;
                match token {
                    Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase().hash(&mut hasher),
                    token => token.hash(&mut hasher),
                }
            }
        }
    }
    hasher.finish()
}
