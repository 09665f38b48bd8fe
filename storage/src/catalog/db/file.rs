//! Connections to the catalog's file.
//!
//! The library's pool asks each connection on its way back whether it still lives, which to a file costs as much as a
//! statement, and a small query has only a few. Here a connection is asked when it was not for a while.
//!
//! # Invariants
//! - At most `most` connections are in use; whoever comes later waits for its turn, and not for ever.
//! - A transaction that is left without its commit is rolled back before anybody else gets its connection.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::any::{AnyArguments, AnyConnectOptions};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, ConnectOptions, Connection, Executor};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a connection that worked is believed to work.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// Connections to one file that take turns. A clone is the same.
#[derive(Clone, Debug)]
pub(super) struct File(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: AnyConnectOptions,
    /// What a new connection is told first.
    settings: &'static str,
    turns: Arc<Semaphore>,
    most: u32,
    patience: Duration,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: AnyConnection,
    worked_at: Instant,
}

/// A connection for as long as it is held.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Gone only while it is dropped.
    connection: Option<AnyConnection>,
    worked_at: Instant,
    /// A transaction has begun and was not committed.
    unfinished: bool,
    file: File,
    /// Given back after the connection.
    turn: Option<OwnedSemaphorePermit>,
}

impl File {
    pub(super) fn new(options: AnyConnectOptions, settings: &'static str, most: u32, patience: Duration) -> Self {
        Self(Arc::new(Shared {
            options,
            settings,
            turns: Arc::new(Semaphore::new(most as usize)),
            most,
            patience,
            idle: Mutex::default(),
        }))
    }

    /// A connection, when it is one's turn.
    pub(super) async fn turn(&self) -> Result<Turn, sqlx::Error> {
        let turn = Arc::clone(&self.0.turns).acquire_owned();
        let turn = match tokio::time::timeout(self.0.patience, turn).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) => return Err(sqlx::Error::PoolClosed),
            Err(_) => return Err(sqlx::Error::PoolTimedOut),
        };
        let idle = self.idle().pop();
        let now = Instant::now();
        let (connection, worked_at) = match idle {
            Some(idle) if now.duration_since(idle.worked_at) < BELIEVED_FOR => (idle.connection, idle.worked_at),
            Some(mut idle) => match idle.connection.ping().await {
                Ok(()) => (idle.connection, now),
                Err(_) => (self.connect().await?, now),
            },
            None => (self.connect().await?, now),
        };
        Ok(Turn {
            connection: Some(connection),
            worked_at,
            unfinished: false,
            file: self.clone(),
            turn: Some(turn),
        })
    }

    async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut connection = self.0.options.connect().await?;
        connection.execute(self.0.settings).await?;
        Ok(connection)
    }

    /// Waits for the turns that are being taken and closes the connections. There is no turn afterwards.
    pub(super) async fn close(&self) {
        // Whoever has all turns is alone. A turn that takes longer than anybody waits is not waited for.
        let _all = tokio::time::timeout(self.0.patience, self.0.turns.acquire_many(self.0.most)).await;
        self.0.turns.close();
        let idle = mem::take(&mut *self.idle());
        for idle in idle {
            // Whatever is not written by now was never promised.
            let _ = idle.connection.close().await;
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Begins a transaction that writes.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.unfinished = true;
        self.execute("begin immediate").await?;
        Ok(())
    }

    /// Statements from `begin` to `commit`, all together.
    pub(super) async fn whole_transaction(
        &mut self,
        statements: Query<'_, Any, AnyArguments>,
    ) -> Result<(), sqlx::Error> {
        self.unfinished = true;
        statements.execute(&mut **self).await?;
        self.unfinished = false;
        Ok(())
    }

    /// Makes what was written last.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.execute("commit").await?;
        self.unfinished = false;
        Ok(())
    }
}

impl Deref for Turn {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        self.connection
            .as_ref()
            .expect("a turn has its connection until it is dropped")
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.connection
            .as_mut()
            .expect("a turn has its connection until it is dropped")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let (file, turn, worked_at) = (self.file.clone(), self.turn.take(), self.worked_at);
        let give_back = move |connection| {
            if !file.0.turns.is_closed() {
                file.idle().push(Idle { connection, worked_at });
            }
            drop(turn);
        };
        if !self.unfinished {
            return give_back(connection);
        }
        // Its owner failed or was dropped, and has nobody who could wait. Without a runtime the connection is closed, and
        // its end rolls back.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // It fails where nothing has begun, which is as good.
                let _ = connection.execute("rollback").await;
                give_back(connection);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;
    use tempfile::TempDir;

    use super::*;

    async fn file(folder: &TempDir, most: u32) -> File {
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}/file.db?mode=rwc", folder.path().display());
        let options = url.parse().expect("a URL");
        let file = File::new(options, "pragma journal_mode = wal", most, Duration::from_millis(20));
        let mut turn = file.turn().await.expect("a turn");
        turn.execute("create table t (n bigint)").await.expect("a table");
        file
    }

    async fn rows(file: &File) -> i64 {
        let mut turn = file.turn().await.expect("a turn");
        let row = turn.fetch_one("select count(*) from t").await.expect("a row");
        row.get(0)
    }

    #[tokio::test]
    async fn a_transaction_that_is_left_without_its_commit_never_was() {
        let folder = TempDir::new().expect("a folder");
        let file = file(&folder, 1).await;

        for commits in [false, true, false] {
            let mut turn = file.turn().await.expect("a turn");
            turn.begin().await.expect("a transaction");
            turn.execute("insert into t values (1)").await.expect("a row");
            if commits {
                turn.commit().await.expect("a commit");
            }
        }

        assert_eq!(rows(&file).await, 1);
    }

    #[tokio::test]
    async fn whoever_waits_too_long_for_a_turn_is_told() {
        let folder = TempDir::new().expect("a folder");
        let file = file(&folder, 1).await;

        let held = file.turn().await.expect("a turn");
        let late = file.turn().await;
        drop(held);

        assert!(matches!(late, Err(sqlx::Error::PoolTimedOut)));
        assert_eq!(rows(&file).await, 0);
    }

    #[tokio::test]
    async fn there_is_no_turn_after_the_file_was_closed() {
        let folder = TempDir::new().expect("a folder");
        let file = file(&folder, 2).await;

        file.close().await;

        assert!(matches!(file.turn().await, Err(sqlx::Error::PoolClosed)));
    }
}
