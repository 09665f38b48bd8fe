//! `CREATE EXTERNAL TABLE` becomes a load, which is how files come into a warehouse.
//!
//! A table whose columns are declared is created and filled, as its columns are declared; otherwise its first file makes
//! it. What a load does not do by itself is done in SQL: a file goes into a dataset of its own, and its rows from there
//! into the table, with the values that the names of its folders say.

use crate::external::{Column, External, quoted};
use crate::files::{Found, is_scratch};
use crate::formats::{Format, is_layout};
use crate::runner::{Failure, NOT_HERE, Session};
use crate::stand_ins::StandIn;
use crate::words::plain_name;

/// The dataset through which files go that need more than a load.
const LOADING: &str = "loading";

/// How a text file is to be read.
#[derive(Clone, Copy, Debug)]
struct Dialect {
    header: bool,
    delimiter: char,
}

/// How the first rows of a table come into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Append,
    Create,
    Replace,
}

impl Session<'_> {
    /// Makes the table that the statement asks for.
    pub(crate) async fn create_external(&mut self, mut table: External) -> Result<(), Failure> {
        let place = self.place(&table.name);
        if table.if_not_exists && self.exists(&place).await {
            return Ok(());
        }
        let dialect = dialect(&table)?;
        let files = self.files_of(&mut table)?;
        self.whole_decimals |= choose_signed_types(&mut table, &files, dialect);

        if table.columns.is_empty() {
            let mut mode = if table.or_replace { Mode::Replace } else { Mode::Create };
            for file in files {
                self.add(&table, dialect, file, mode).await?;
                mode = Mode::Append;
            }
            return Ok(());
        }
        if let Err(refused) = self.declare(&table).await {
            return self.stand_in_external(table, dialect, files, refused).await;
        }
        for file in files {
            if let Err(failure) = self.add(&table, dialect, file, Mode::Append).await {
                // What reads the table must not take it for one that has its rows.
                self.ask(&format!("drop table {}", table.name)).await?;
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Where a table of this name is, as `dataset.table`.
    fn place(&self, name: &str) -> String {
        let parts: Vec<String> = name.split('.').map(plain_name).collect();
        match parts.as_slice() {
            [.., dataset, table] => format!("{dataset}.{table}"),
            _ => format!("{}.{}", self.dataset, parts.concat()),
        }
    }

    async fn exists(&self, place: &str) -> bool {
        let (dataset, table) = place.split_once('.').expect("a place has two parts");
        let path = format!("/v1/datasets/{dataset}/tables/{table}");
        self.caller.get(&path).await.is_ok()
    }

    /// The files of a table, which tell what the columns are that its folders are named by.
    fn files_of(&self, table: &mut External) -> Result<Vec<Found>, Failure> {
        let mut files: Vec<Found> = Vec::new();
        for location in &table.locations {
            let found = self.files.at(location);
            // A table that is declared may wait for its rows. One that is unbounded is not read until it is asked.
            let may_be_empty = !table.columns.is_empty() && (is_scratch(location) || table.unbounded);
            if self.files.misses(location) || (found.is_empty() && !may_be_empty) {
                return Err(missing(location));
            }
            files.extend(found);
        }

        let infers = self
            .settings
            .get("datafusion.execution.listing_table_factory_infer_partitions");
        let infers = infers.is_none_or(|value| value.eq_ignore_ascii_case("true"));
        let named = files.iter().find(|file| !file.values.is_empty());
        if let Some(file) = named
            && table.columns.is_empty()
            && table.partitions.is_empty()
            && infers
        {
            let names = file.values.iter().map(|(name, _)| name);
            table.partitions = names.map(|name| Column::of_text(name)).collect();
        }
        let partitions = &table.partitions;
        files.retain(|file| {
            let mut pairs = partitions.iter().zip(&file.values);
            file.values.len() >= partitions.len() && pairs.all(|(column, (name, _))| column.is(name))
        });
        for file in &mut files {
            file.values.truncate(partitions.len());
        }
        Ok(files)
    }

    async fn declare(&self, table: &External) -> Result<(), Failure> {
        let columns = table.all_columns().map(Column::declared);
        let columns: Vec<String> = columns.chain(table.keys.iter().cloned()).collect();
        let create = if table.or_replace {
            "create or replace table"
        } else {
            "create table"
        };
        let sql = format!("{create} {} ({})", table.name, columns.join(", "));
        self.ask(&sql).await.map(drop)
    }

    /// A table of text under another name, and in its place a view of the types that a table cannot have.
    async fn stand_in_external(
        &mut self,
        table: External,
        dialect: Dialect,
        files: Vec<Found>,
        refused: Failure,
    ) -> Result<(), Failure> {
        if refused.code != "type_mismatch" || table.format != Format::Csv || !table.partitions.is_empty() {
            return Err(refused);
        }
        let casts = table.columns.iter().map(|column| {
            let name = quoted(&column.name);
            format!("cast({name} as {}) as {name}", column.data_type)
        });
        let casts = casts.collect::<Vec<_>>().join(", ");
        let name = table.name.clone();
        let text = External {
            name: format!("{}_as_text", plain_name(&name)),
            columns: table
                .columns
                .iter()
                .map(|column| Column::of_text(&column.name))
                .collect(),
            keys: Vec::new(),
            ..table
        };
        self.declare(&text).await?;
        for file in files {
            self.add(&text, dialect, file, Mode::Append).await?;
        }
        let view = StandIn::of_query(&name, &format!("select {casts} from {}", text.name));
        self.put(view).await
    }

    /// The rows of one file into the table.
    async fn add(&self, table: &External, dialect: Dialect, file: Found, mode: Mode) -> Result<(), Failure> {
        if file.values.is_empty() {
            let place = self.place(&table.name);
            match self.load(&place, table, dialect, file.bytes.clone(), mode).await {
                // The file has columns that the table has not.
                Err(failure) if failure.code == "unknown_column" && table.format != Format::Csv => {}
                loaded => return loaded,
            }
        }
        self.caller.dataset(LOADING).await;
        let carried = self.carry(table, dialect, file, mode).await;
        let path = format!("/v1/datasets/{LOADING}?cascade=true");
        self.caller.delete(&path).await.map_err(Failure::from)?;
        carried
    }

    /// One file into one table, by a load.
    async fn load(
        &self,
        place: &str,
        table: &External,
        dialect: Dialect,
        mut bytes: Vec<u8>,
        mode: Mode,
    ) -> Result<(), Failure> {
        let mode = mode.word();
        let options = match table.format {
            Format::Csv => {
                let Dialect { mut header, delimiter } = dialect;
                if header && !table.columns.is_empty() {
                    // Declared columns are those of the file by their place, whatever the file calls them.
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    bytes.drain(..end.map_or(bytes.len(), |end| end + 1));
                    header = false;
                }
                let delimiter = u32::from(delimiter);
                format!("format=csv&mode={mode}&header={header}&delimiter=%{delimiter:02X}")
            }
            other => format!("format={}&mode={mode}", other.word()),
        };
        let loaded = self.caller.load(place, &options, bytes).await;
        loaded.map(drop).map_err(Failure::from)
    }

    /// One file into the table, through a table of its own.
    async fn carry(&self, table: &External, dialect: Dialect, file: Found, mode: Mode) -> Result<(), Failure> {
        let upload = format!("{LOADING}.upload");
        if table.format == Format::Csv && !table.columns.is_empty() {
            let columns: Vec<String> = table.columns.iter().map(Column::declared).collect();
            let sql = format!("create table {upload} ({})", columns.join(", "));
            self.ask(&sql).await?;
            self.load(&upload, table, dialect, file.bytes, Mode::Append).await?;
        } else {
            self.load(&upload, table, dialect, file.bytes, Mode::Create).await?;
        }

        let path = format!("/v1/datasets/{LOADING}/tables/upload");
        let uploaded = self.caller.get(&path).await.map_err(Failure::from)?;
        let names = uploaded["schema"].as_array().into_iter().flatten();
        let (mut targets, mut sources) = (Vec::new(), Vec::new());
        for name in names.filter_map(|column| column["name"].as_str()) {
            if let Some(target) = target(table, name) {
                sources.push(format!("{} as {}", quoted(name), quoted(&target)));
                targets.push(quoted(&target));
            }
        }
        for (column, (_, value)) in table.partitions.iter().zip(&file.values) {
            let value = value.replace('\'', "''");
            let name = quoted(&column.name);
            sources.push(format!("cast('{value}' as {}) as {name}", column.data_type));
            targets.push(name);
        }

        let (name, targets, sources) = (&table.name, targets.join(", "), sources.join(", "));
        let sql = match mode {
            Mode::Append => format!("insert into {name} ({targets}) select {sources} from {upload}"),
            Mode::Create => format!("create table {name} as select {sources} from {upload}"),
            Mode::Replace => format!("create or replace table {name} as select {sources} from {upload}"),
        };
        self.ask(&sql).await.map(drop)
    }
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Create => "create",
            Self::Replace => "replace",
        }
    }
}

/// Where a column of a file goes, if it goes anywhere.
fn target(table: &External, name: &str) -> Option<String> {
    if table.partitions.iter().any(|column| column.is(name)) {
        // The folder's name says it.
        return None;
    }
    if table.columns.is_empty() {
        return Some(name.to_owned());
    }
    let column = table.columns.iter().find(|column| column.is(name))?;
    Some(column.name.clone())
}

/// What a load can be told of how its file is written.
fn dialect(table: &External) -> Result<Dialect, Failure> {
    let mut dialect = Dialect {
        header: true,
        delimiter: ',',
    };
    for (name, value) in &table.options {
        let value = value.to_ascii_lowercase();
        match (table.format, name.as_str(), value.as_str()) {
            (Format::Csv, "has_header", "true") => dialect.header = true,
            (Format::Csv, "has_header", "false") => dialect.header = false,
            (Format::Csv, "delimiter", one) if one.len() == 1 => dialect.delimiter = char::from(one.as_bytes()[0]),
            // A load reads quotes in quotes and lines in quotes unasked.
            (Format::Csv, "double_quote" | "newlines_in_values", "true") | (_, "compression", "uncompressed") => {}
            (Format::Parquet, name, _) if is_layout(name) => {}
            _ => return Err(Failure::new(NOT_HERE, format!("a load has no option {name}"))),
        }
    }
    Ok(dialect)
}

/// A table has no `BIGINT UNSIGNED`: its column is the narrowest signed one that holds the values of the files. Tells
/// whether one had to be a decimal.
fn choose_signed_types(table: &mut External, files: &[Found], dialect: Dialect) -> bool {
    let mut has_decimals = false;
    for (place, column) in table.columns.iter_mut().enumerate() {
        if !column.data_type.eq_ignore_ascii_case("bigint unsigned") {
            continue;
        }
        let is_large = table.format == Format::Csv && files.iter().any(|file| holds_large(file, place, dialect));
        column.data_type = if is_large { "DECIMAL(20, 0)" } else { "BIGINT" }.to_owned();
        has_decimals |= is_large;
    }
    has_decimals
}

/// Whether a column of a text file has a number that no signed integer holds.
fn holds_large(file: &Found, place: usize, dialect: Dialect) -> bool {
    let delimiter = u8::try_from(dialect.delimiter).unwrap_or(b',');
    let reader = csv::ReaderBuilder::new()
        .has_headers(dialect.header)
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(file.bytes.as_slice());
    reader.into_records().flatten().any(|record| {
        let number = record.get(place).and_then(|value| value.parse::<u64>().ok());
        number.is_some_and(|number| i64::try_from(number).is_err())
    })
}

fn missing(location: &str) -> Failure {
    let message = if is_scratch(location) {
        format!("nothing has written {location}")
    } else {
        format!("{location} is not published with the suite")
    };
    Failure::new(NOT_HERE, message)
}
