//! `CREATE EXTERNAL TABLE`, read as what it asks for.
//!
//! What is not understood here goes to the product as it is, which refuses it.

use crate::formats::{self, Format, Options};
use crate::keys;
use crate::words::{Words, list, plain_name};

/// A table over files.
#[derive(Debug)]
pub(crate) struct External {
    /// As it is written.
    pub(crate) name: String,
    pub(crate) or_replace: bool,
    pub(crate) if_not_exists: bool,
    pub(crate) unbounded: bool,
    /// In the order of the file. None when the file decides.
    pub(crate) columns: Vec<Column>,
    /// Columns whose values are in the names of folders, the outermost first.
    pub(crate) partitions: Vec<Column>,
    /// As `CREATE TABLE` declares them.
    pub(crate) keys: Vec<String>,
    pub(crate) format: Format,
    pub(crate) locations: Vec<String>,
    pub(crate) options: Options,
}

/// A column that a statement declares.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// As the engine knows it.
    pub(crate) name: String,
    pub(crate) data_type: String,
    /// `NOT NULL`, and what else there is behind the type.
    pub(crate) rest: String,
}

impl External {
    pub(crate) fn of(sql: &str) -> Option<Self> {
        let mut words = Words::of(sql);
        if !words.take(&["create"]) {
            return None;
        }
        let or_replace = words.take(&["or", "replace"]);
        let unbounded = words.take(&["unbounded"]);
        if !words.take(&["external", "table"]) {
            return None;
        }
        let if_not_exists = words.take(&["if", "not", "exists"]);
        let name = words.name()?.to_owned();
        let (mut columns, keys) = match words.group() {
            Some(text) => columns_and_keys(text)?,
            None => Default::default(),
        };

        let (mut format, mut locations, mut partitions, mut options) = (None, None, None, None);
        while !words.is_done() {
            if words.take(&["stored", "as"]) {
                once(&mut format, Format::of(words.word()?)?)?;
            } else if words.take(&["location"]) {
                once(&mut locations, paths(&mut words)?)?;
            } else if words.take(&["partitioned", "by"]) {
                once(&mut partitions, columns_and_keys(words.group()?)?.0)?;
            } else if words.take(&["options"]) {
                once(&mut options, formats::options(words.group()?)?)?;
            } else if words.take(&["with", "order"]) {
                // A table of ours has no order to declare.
                words.group()?;
            } else {
                return None;
            }
        }

        let mut partitions = partitions.unwrap_or_default();
        move_partitions(&mut columns, &mut partitions)?;
        let is_typed = columns.iter().all(|column| !column.data_type.is_empty());
        if !is_typed || (or_replace && if_not_exists) {
            return None;
        }
        Some(Self {
            name,
            or_replace,
            if_not_exists,
            unbounded,
            columns,
            partitions,
            keys,
            format: format?,
            locations: locations?,
            options: options.unwrap_or_default(),
        })
    }

    /// Every column of the table, in its order: those from the names of folders come last.
    pub(crate) fn all_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().chain(&self.partitions)
    }
}

impl Column {
    /// A column of text that is not declared.
    pub(crate) fn of_text(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            data_type: "VARCHAR".to_owned(),
            rest: String::new(),
        }
    }

    /// As `CREATE TABLE` declares it.
    pub(crate) fn declared(&self) -> String {
        format!("{} {} {}", quoted(&self.name), self.data_type, self.rest)
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// A name in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Keeps the value of a clause that may come once.
fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

fn paths(words: &mut Words<'_>) -> Option<Vec<String>> {
    match words.group() {
        Some(text) => list(text).into_iter().map(formats::path).collect(),
        None => Some(vec![formats::path(words.word()?)?]),
    }
}

/// Columns as they are declared, where a type may be missing, and keys.
fn columns_and_keys(text: &str) -> Option<(Vec<Column>, Vec<String>)> {
    let (mut found, mut keys) = (Vec::new(), Vec::new());
    for item in list(text) {
        if let Some(key) = keys::of_table(item) {
            keys.push(key);
            continue;
        }
        let mut words = Words::of(item);
        let name = words.word()?;
        if ["foreign", "constraint"].contains(&name.to_ascii_lowercase().as_str()) {
            return None;
        }
        let (mut data_type, mut rest) = (Vec::new(), Vec::new());
        while let Some(word) = words.word() {
            match word.to_ascii_lowercase().as_str() {
                "primary" if words.take(&["key"]) => rest.push("primary key not enforced"),
                "unique" => rest.push("unique not enforced"),
                "not" | "null" | "default" => rest.push(word),
                _ if rest.is_empty() => data_type.push(word),
                _ => rest.push(word),
            }
        }
        found.push(Column {
            name: plain_name(name),
            data_type: signed(data_type.join(" ")),
            rest: rest.join(" "),
        });
    }
    Some((found, keys))
}

/// The signed type that holds every value of an unsigned one, which a table has not. For `BIGINT UNSIGNED` that depends
/// on the values, so it stays.
pub(crate) fn signed(data_type: String) -> String {
    match data_type.to_ascii_lowercase().as_str() {
        "tinyint unsigned" => "SMALLINT".to_owned(),
        "smallint unsigned" => "INT".to_owned(),
        "int unsigned" | "integer unsigned" => "BIGINT".to_owned(),
        _ => data_type,
    }
}

/// Columns that are named by `PARTITIONED BY` go there with their types.
fn move_partitions(columns: &mut Vec<Column>, partitions: &mut [Column]) -> Option<()> {
    let file_decides = columns.is_empty();
    for partition in partitions {
        let place = columns.iter().position(|column| column.is(&partition.name));
        match (partition.data_type.is_empty(), place) {
            (true, Some(place)) => *partition = columns.remove(place),
            (true, None) if file_decides => *partition = Column::of_text(&partition.name),
            (false, None) => {}
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::External;

    #[test]
    fn a_statement_is_read_with_its_columns_its_files_and_its_options() {
        let table = External::of(
            "CREATE EXTERNAL TABLE IF NOT EXISTS t (a INT UNSIGNED NOT NULL, part DATE, d DECIMAL(15, 2), primary key (a),) \
             STORED AS CSV PARTITIONED BY (part) WITH ORDER (a ASC) LOCATION 'data/t' OPTIONS ('format.delimiter' '|');",
        )
        .expect("a statement of the suite");

        let columns: Vec<String> = table.all_columns().map(|column| column.declared()).collect();
        let columns: Vec<&str> = columns.iter().map(|column| column.trim_end()).collect();
        assert_eq!(
            columns,
            ["\"a\" BIGINT NOT NULL", "\"d\" DECIMAL ( 15 , 2 )", "\"part\" DATE"]
        );
        assert_eq!(table.keys, ["primary key (a) not enforced"]);
        assert_eq!(table.locations, ["data/t"]);
        assert_eq!(table.options["delimiter"], "|");
        assert!(table.if_not_exists && !table.or_replace);
    }

    #[test]
    fn a_statement_that_makes_no_sense_is_not_read() {
        for sql in [
            "CREATE EXTERNAL TABLE t STORED AS CSV",
            "CREATE EXTERNAL TABLE t(c1 int) STORED AS CSV WITH ORDER (c1 LOCATION 'foo.csv'",
            "CREATE EXTERNAL TABLE t STORED AS CSV STORED AS PARQUET LOCATION 'foo.parquet'",
            "CREATE EXTERNAL TABLE t STORED AS CSV OPTIONS ('k1' 'v1', k3) LOCATION 'foo.csv'",
            "create EXTERNAL TABLE t(c1 int) STORED AS CSV PARTITIONED BY (c2) LOCATION 'foo.csv'",
            "create table t (a int)",
        ] {
            assert!(External::of(sql).is_none(), "{sql}");
        }
    }
}
