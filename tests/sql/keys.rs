//! Keys of `CREATE TABLE`, which DataFusion keeps as a promise without a word: here it is written out.

use crate::words::{Words, declared_columns, list};

/// What a promise ends with.
const PROMISE: &str = "not enforced";

/// The statement with its keys as promises. Any other statement as it is.
pub(crate) fn promised(sql: &str) -> String {
    let Some(columns) = declared_columns(sql) else {
        return sql.to_owned();
    };
    let items = list(columns);
    if !items.iter().any(|item| is_key(item) || with_promise(item) != **item) {
        return sql.to_owned();
    }
    let items: Vec<String> = items
        .into_iter()
        .map(|item| of_table(item).unwrap_or_else(|| with_promise(item)))
        .collect();
    sql.replacen(columns, &items.join(", "), 1)
}

/// A key of the table, if the item of its columns is one.
pub(crate) fn of_table(item: &str) -> Option<String> {
    is_key(item).then(|| format!("{} {PROMISE}", item.trim()))
}

fn is_key(item: &str) -> bool {
    let mut words = Words::of(item);
    if words.take(&["constraint"]) {
        words.word();
    }
    words.take(&["primary", "key"]) || words.take(&["unique"])
}

/// A column with its keys as promises.
fn with_promise(item: &str) -> String {
    let mut promised = String::new();
    let mut words = Words::of(item);
    while let Some(word) = words.word() {
        let is_key =
            (word.eq_ignore_ascii_case("primary") && words.take(&["key"])) || word.eq_ignore_ascii_case("unique");
        if is_key {
            let rest = words.rest();
            let end = item.len() - rest.len();
            promised.push_str(item[..end].trim_end());
            promised.push_str(&format!(" {PROMISE} {rest}"));
            return promised;
        }
    }
    item.to_owned()
}

#[cfg(test)]
mod tests {
    use super::promised;

    #[test]
    fn every_key_of_a_table_is_written_as_a_promise() {
        assert_eq!(
            promised("CREATE TABLE t (a INT PRIMARY KEY NOT NULL, b INT unique, primary key(a, b)) AS VALUES (1, 2)"),
            "CREATE TABLE t (a INT PRIMARY KEY not enforced NOT NULL,  b INT unique not enforced , primary key(a, b) not enforced) \
             AS VALUES (1, 2)"
        );
    }

    #[test]
    fn a_statement_without_keys_is_left_alone() {
        for sql in [
            "create table t (a int, b varchar)",
            "select unique from t",
            "create table t as select 1 as a",
        ] {
            assert_eq!(promised(sql), sql);
        }
    }
}
