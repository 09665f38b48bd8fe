//! Where our own metadata lives: SQLite in one file, or PostgreSQL by URL. The only SQL we run for ourselves.
//!
//! # Invariants
//! - One SQL text serves both databases, so values are text and 64-bit integers: JSON as text, instants as
//!   microseconds. What must differ is in this file, [`Backend`] says where, and in [`at_once`], which is SQLite's alone.
//! - A commit that returned is on disk.
//! - On SQLite there is one writer: writes wait for each other in line, in this process by a pool of one connection and
//!   between processes by taking the lock when a transaction begins. Readers see the last commit and wait for nobody.
//! - Whoever changes the names of a dataset first takes its lock with [`names::lock_dataset`]; whoever ends a query
//!   takes, in this order, the query, the dataset, the table and the head of the ledger. So nobody waits in a circle.

use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use sqlx::any::{AnyArguments, AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, ConnectOptions, Connection as _, Executor, Row, SqlSafeStr};

use self::file::File;
pub(crate) use self::file::Turn;

use crate::clock::{Clock, Timestamp};
use crate::ids::ProjectId;
use crate::{BoxError, Error, Result};

pub(crate) mod at_once;
pub(crate) mod audit;
pub(crate) mod budgets;
mod file;
pub(crate) mod ledger;
pub(crate) mod money;
pub(crate) mod names;
pub(crate) mod people;
pub(crate) mod queries;
pub(crate) mod relations;
pub(crate) mod workers;

/// A connection of either database.
pub(crate) type Connection = AnyConnection;

/// How many readers of the file work at once.
const SQLITE_READERS: u32 = 4;

/// How many connections one gateway holds.
const POSTGRES_CONNECTIONS: u32 = 16;

/// How long a caller waits for its turn before it is told that the database is not available.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long whoever opens a new file and finds it locked waits before it asks again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What every connection to SQLite is told first.
const SQLITE_SETTINGS: &str = "pragma busy_timeout = 10000; \
     pragma journal_mode = wal; \
     pragma synchronous = full; \
     pragma foreign_keys = on; \
     pragma journal_size_limit = 67108864";

/// The changes that a database must have seen, in order. A change that was released is never edited.
const SHARED: &str = include_str!("../../migrations/1_names_queries_ledger.sql");
const APPEND_ONLY_ON_SQLITE: &str = include_str!("../../migrations/2_append_only_ledger.sqlite.sql");
const APPEND_ONLY_ON_POSTGRES: &str = include_str!("../../migrations/2_append_only_ledger.postgres.sql");
const DIALECT_OF_VIEWS: &str = include_str!("../../migrations/3_dialect_of_views.sql");
const WORKERS: &str = include_str!("../../migrations/4_workers.sql");
const WORKER_DEMANDS: &str = include_str!("../../migrations/5_worker_demands.sql");
const PROFILES: &str = include_str!("../../migrations/6_profiles.sql");
const BUILD_OF_DEMANDS: &str = include_str!("../../migrations/7_build_of_demands.sql");
const MONEY: &str = include_str!("../../migrations/8_money.sql");
const FIXED_PRICES_ON_SQLITE: &str = include_str!("../../migrations/9_fixed_prices.sqlite.sql");
const FIXED_PRICES_ON_POSTGRES: &str = include_str!("../../migrations/9_fixed_prices.postgres.sql");
const PEOPLE: &str = include_str!("../../migrations/10_people.sql");
const FIXED_AUDIT_ON_SQLITE: &str = include_str!("../../migrations/11_fixed_audit.sqlite.sql");
const FIXED_AUDIT_ON_POSTGRES: &str = include_str!("../../migrations/11_fixed_audit.postgres.sql");
const BUDGETS: &str = include_str!("../../migrations/12_budgets.sql");

/// An open database, and the clock that dates what is written to it.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    backend: Backend,
    clock: Clock,
}

/// Which of the two this is, and its connections.
#[derive(Clone, Debug)]
enum Backend {
    Sqlite { writer: File, readers: File },
    Postgres(AnyPool),
}

/// A connection of either database, for as long as it is held; to PostgreSQL it is a `P`.
pub(crate) enum Held<P = PoolConnection<Any>> {
    Sqlite(Turn),
    Postgres(P),
}

/// Statements that are written together or not at all: not, unless they are committed.
pub(crate) type Transaction = Held<sqlx::Transaction<'static, Any>>;

impl Db {
    /// Opens the database at `url`, creates the file if it is SQLite's, and brings the tables up to date.
    pub(crate) async fn open(url: &str, clock: Clock) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let backend = match url.split_once(':') {
            Some(("sqlite", _)) => Self::open_sqlite(url).await?,
            Some(("postgres" | "postgresql", _)) => Self::open_postgres(url).await?,
            // The URL may hold a password, so the message does not hold the URL.
            _ => {
                return Err(Error::Invalid(
                    "a catalog's URL begins with sqlite: or postgres:".to_owned(),
                ));
            }
        };
        Ok(Self { backend, clock })
    }

    async fn open_sqlite(url: &str) -> Result<Backend> {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(Error::Invalid(
                "a catalog must survive a restart, so it cannot be in memory".to_owned(),
            ));
        }
        let url = match (url.contains("mode="), url.contains('?')) {
            (true, _) => url.to_owned(),
            (false, true) => format!("{url}&mode=rwc"),
            (false, false) => format!("{url}?mode=rwc"),
        };
        let options = url.parse::<AnyConnectOptions>()?;
        let mut first = Self::first_connection(&options).await?;
        // The migrator knows no lock for SQLite, so two processes that open a new file are kept apart by ours.
        let mut tx = first.begin_with("begin immediate").await?;
        migrator(&ON_SQLITE).run(&mut *tx).await.map_err(not_migrated)?;
        tx.commit().await?;
        first.close().await?;

        let file = |most| File::new(options.clone(), SQLITE_SETTINGS, most, PATIENCE);
        Ok(Backend::Sqlite {
            writer: file(1),
            readers: file(SQLITE_READERS),
        })
    }

    /// Creates the file and makes it a WAL database. SQLite waits for no lock where it changes the journal: of several who
    /// open a new file, all but one may be told that it is locked, and ask again.
    async fn first_connection(options: &AnyConnectOptions) -> Result<AnyConnection> {
        let patient_until = Instant::now() + PATIENCE;
        loop {
            let mut first = options.connect().await?;
            match first.execute(SQLITE_SETTINGS).await {
                Ok(_) => return Ok(first),
                Err(error) if is_locked(&error) && Instant::now() < patient_until => {
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn open_postgres(url: &str) -> Result<Backend> {
        let options = url.parse::<AnyConnectOptions>()?;
        let pool = AnyPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(PATIENCE);
        let pool = pool.connect_with(options).await?;
        migrator(&ON_POSTGRES).run(&pool).await.map_err(not_migrated)?;
        Ok(Backend::Postgres(pool))
    }

    /// Begins to write. Nothing is written unless the transaction is committed.
    pub(crate) async fn begin(&self) -> Result<Transaction> {
        match &self.backend {
            Backend::Sqlite { writer, .. } => {
                let mut turn = writer.turn().await?;
                turn.begin().await?;
                Ok(Held::Sqlite(turn))
            }
            // Each statement sees what was committed before it: after waiting for a lock, one sees why one waited.
            Backend::Postgres(pool) => {
                let begun = pool.begin_with("begin isolation level read committed").await?;
                Ok(Held::Postgres(begun))
            }
        }
    }

    /// A connection for one statement that writes, and is its own transaction.
    pub(crate) async fn writer(&self) -> Result<Held> {
        Ok(match &self.backend {
            Backend::Sqlite { writer, .. } => Held::Sqlite(writer.turn().await?),
            Backend::Postgres(pool) => Held::Postgres(pool.acquire().await?),
        })
    }

    /// The one that writes to the file, if it is a file: it takes several statements at once.
    pub(crate) async fn file_writer(&self) -> Result<Option<Turn>> {
        Ok(match &self.backend {
            Backend::Sqlite { writer, .. } => Some(writer.turn().await?),
            Backend::Postgres(_) => None,
        })
    }

    /// A connection to read with. One statement is one snapshot.
    pub(crate) async fn reader(&self) -> Result<Held> {
        Ok(match &self.backend {
            Backend::Sqlite { readers, .. } => Held::Sqlite(readers.turn().await?),
            Backend::Postgres(pool) => Held::Postgres(pool.acquire().await?),
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits for the connections in use and closes the database.
    pub(crate) async fn close(&self) {
        match &self.backend {
            Backend::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Backend::Postgres(pool) => pool.close().await,
        }
    }
}

impl Transaction {
    /// Makes what was written last.
    pub(crate) async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(mut turn) => turn.commit().await?,
            Self::Postgres(transaction) => transaction.commit().await?,
        }
        Ok(())
    }
}

impl<P: Deref<Target = AnyConnection>> Deref for Held<P> {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match self {
            Self::Sqlite(turn) => turn,
            Self::Postgres(connection) => connection,
        }
    }
}

impl<P: DerefMut<Target = AnyConnection>> DerefMut for Held<P> {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match self {
            Self::Sqlite(turn) => turn,
            Self::Postgres(connection) => connection,
        }
    }
}

/// What each database says in its own words.
struct OwnWords {
    append_only: &'static str,
    fixed_prices: &'static str,
    fixed_audit: &'static str,
}

const ON_SQLITE: OwnWords = OwnWords {
    append_only: APPEND_ONLY_ON_SQLITE,
    fixed_prices: FIXED_PRICES_ON_SQLITE,
    fixed_audit: FIXED_AUDIT_ON_SQLITE,
};

const ON_POSTGRES: OwnWords = OwnWords {
    append_only: APPEND_ONLY_ON_POSTGRES,
    fixed_prices: FIXED_PRICES_ON_POSTGRES,
    fixed_audit: FIXED_AUDIT_ON_POSTGRES,
};

/// The changes to bring a database up to date with.
fn migrator(own: &OwnWords) -> Migrator {
    let mut migrator = Migrator::with_migrations(vec![
        migration(1, "names, queries, ledger", SHARED),
        migration(2, "append-only ledger", own.append_only),
        migration(3, "dialect of views", DIALECT_OF_VIEWS),
        migration(4, "workers", WORKERS),
        migration(5, "worker demands", WORKER_DEMANDS),
        migration(6, "profiles", PROFILES),
        migration(7, "build of demands", BUILD_OF_DEMANDS),
        migration(8, "money", MONEY),
        migration(9, "fixed prices", own.fixed_prices),
        migration(10, "people", PEOPLE),
        migration(11, "fixed audit", own.fixed_audit),
        migration(12, "budgets", BUDGETS),
    ]);
    // While gateways are replaced one by one, an older one starts beside tables that a newer one has changed.
    migrator.set_ignore_missing(true);
    migrator
}

fn migration(version: i64, description: &'static str, sql: &'static str) -> Migration {
    Migration::new(
        version,
        description.into(),
        MigrationType::Simple,
        sql.into_sql_str(),
        false,
    )
}

fn not_migrated(error: sqlx::migrate::MigrateError) -> Error {
    match error {
        sqlx::migrate::MigrateError::Execute(error) => error.into(),
        error => Error::Internal(error.into()),
    }
}

/// What the database says, in our words. What it means that a name is taken is known only where the name is.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;

        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::BeginFailed => {
                Self::Unavailable(error.into())
            }
            E::Configuration(_) => Self::Invalid(format!("the catalog's URL cannot be used: {error}")),
            E::Database(said) => match said.code().as_deref().map(meaning) {
                Some(Meaning::Lost) => Self::Conflict("somebody else changed the same thing first".to_owned()),
                Some(Meaning::Busy) => Self::Unavailable(error.into()),
                Some(Meaning::Defect) | None => Self::Internal(error.into()),
            },
            _ => Self::Internal(error.into()),
        }
    }
}

/// What a database's code means for whoever asked.
enum Meaning {
    /// Somebody else was first.
    Lost,
    /// The database is busy, full or going away.
    Busy,
    /// We asked wrongly.
    Defect,
}

/// PostgreSQL's codes have five characters, SQLite's are numbers of up to four digits whose low byte is the kind.
fn meaning(code: &str) -> Meaning {
    match code {
        // Serialisation failure, deadlock, lock not available, unique violation.
        "40001" | "40P01" | "55P03" | "23505" => Meaning::Lost,
        // Constraints on a unique index and on a primary key.
        "2067" | "1555" => Meaning::Lost,
        // Connection, resources, intervention by an operator.
        code if code.len() == 5 && ["08", "53", "57"].contains(&&code[..2]) => Meaning::Busy,
        code => match sqlite_kind(code) {
            // Busy, locked, read-only, input/output, full, cannot open.
            Some(5 | 6 | 8 | 10 | 13 | 14) => Meaning::Busy,
            _ => Meaning::Defect,
        },
    }
}

/// Whether SQLite says that somebody else has the file just now.
fn is_locked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|said| said.code());
    matches!(code.as_deref().and_then(sqlite_kind), Some(5 | 6))
}

/// The kind of a code of SQLite's. None for one of PostgreSQL's.
fn sqlite_kind(code: &str) -> Option<i32> {
    let number = code.parse::<i32>().ok().filter(|_| code.len() < 5)?;
    Some(number & 0xff)
}

/// What went wrong with a row that belongs to a project: most likely there is no such project.
fn flag_missing_project(error: sqlx::Error, project: &ProjectId) -> Error {
    match error.as_database_error() {
        Some(said) if said.is_foreign_key_violation() => Error::NotFound(format!("no project named {project}")),
        _ => error.into(),
    }
}

/// A value that we wrote ourselves and that must therefore be readable.
pub(crate) fn unreadable(error: impl Into<BoxError>) -> Error {
    Error::Internal(error.into())
}

fn parsed<T>(row: &AnyRow, column: &str) -> Result<T>
where
    T: FromStr<Err: Into<BoxError>>,
{
    row.try_get::<&str, _>(column)?.parse().map_err(unreadable)
}

fn parsed_if_any<T>(row: &AnyRow, column: &str) -> Result<Option<T>>
where
    T: FromStr<Err: Into<BoxError>>,
{
    row.try_get::<Option<&str>, _>(column)?
        .map(str::parse)
        .transpose()
        .map_err(unreadable)
}

fn json<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T> {
    serde_json::from_str(row.try_get(column)?).map_err(unreadable)
}

fn json_if_any<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<Option<T>> {
    row.try_get::<Option<&str>, _>(column)?
        .map(serde_json::from_str)
        .transpose()
        .map_err(unreadable)
}

fn number<T>(row: &AnyRow, column: &str) -> Result<T>
where
    T: TryFrom<i64, Error: Into<BoxError>>,
{
    T::try_from(row.try_get::<i64, _>(column)?).map_err(unreadable)
}

fn timestamp(row: &AnyRow, column: &str) -> Result<Timestamp> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}

fn timestamp_if_any(row: &AnyRow, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_micros))
}

/// How a hash is stored: as lower-case hexadecimal text.
fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

/// `$from, $from+1, …`: placeholders for a list of values.
fn placeholders(from: usize, count: usize) -> String {
    let mut text = String::new();
    for number in from..from + count {
        if number > from {
            text.push_str(", ");
        }
        text.push('$');
        text.push_str(&number.to_string());
    }
    text
}

/// Executes one statement and says how many rows it changed.
async fn changed(
    connection: &mut AnyConnection,
    query: sqlx::query::Query<'_, Any, AnyArguments>,
) -> Result<u64, sqlx::Error> {
    Ok(query.execute(connection).await?.rows_affected())
}

#[cfg(test)]
pub(crate) mod tests;
