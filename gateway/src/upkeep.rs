//! The background loop: says that this gateway lives, ends queries whose gateway died, and removes files nobody needs.
//!
//! Every step can be done twice and by several gateways at once; each is logged where it fails and tried again later.

use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::catalog::{Catalog, Effect, Relation};
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::queries::{End, Queries as Records, QueryError, QueryRecord, QueryState, Usage, WriteIntent};
use wasmhouse_storage::tables::Tables;

use crate::config::Config;
use crate::error::Result;
use crate::queries::Queries;

/// The background loop. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upkeep {
    every: Duration,
    files_every: Duration,
    lease: Duration,
    orphan_age: Duration,
    catalog: Catalog,
    records: Records,
    tables: Tables,
    bucket: Bucket,
    clock: Clock,
    queries: Queries,
}

impl Upkeep {
    pub(crate) fn new(
        config: &Config,
        catalog: Catalog,
        records: Records,
        tables: Tables,
        bucket: Bucket,
        clock: Clock,
        queries: Queries,
    ) -> Self {
        Self {
            every: Duration::from_secs(config.upkeep.every_s),
            files_every: Duration::from_secs(config.upkeep.files_every_s),
            lease: Duration::from_secs(config.upkeep.lease_s),
            orphan_age: Duration::from_secs(config.upkeep.orphan_s),
            catalog,
            records,
            tables,
            bucket,
            clock,
            queries,
        }
    }

    /// Looks after the house until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.every);
        // Listing a bucket costs requests; once in a while is enough.
        let mut files_tick = tokio::time::interval(self.files_every);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {
                    said("queries were not renewed", self.queries.renew().await);
                    said("lost queries were not ended", self.end_lost().await);
                }
                _ = files_tick.tick() => said("files were not removed", self.remove_files().await),
            }
        }
    }

    /// Ends the queries that an earlier process left behind, when nobody else can have started any.
    pub(crate) async fn end_all(&self) -> Result<()> {
        for record in self.records.lost(Timestamp::from_micros(i64::MAX)).await? {
            self.end(&record).await?;
        }
        Ok(())
    }

    /// Ends the queries whose gateway is gone: as done if their commit is in the log, as lost if not.
    pub(crate) async fn end_lost(&self) -> Result<()> {
        let now = self.clock.now();
        for record in self.records.lost(now).await? {
            // A gateway that was only slow may still be at its commit; it gets a second lease's time to finish.
            if record.state == QueryState::Committing && now.since(record.lease_until) < self.lease {
                continue;
            }
            self.end(&record).await?;
        }
        Ok(())
    }

    async fn end(&self, record: &QueryRecord) -> Result<()> {
        let end = self.end_of(record).await?;
        let state = end.state.as_str();
        self.records.end(&record.id, end).await?;
        info!(query.id = %record.id, query.state = state, "a query of a gateway that is gone was ended: {state}");
        Ok(())
    }

    async fn end_of(&self, record: &QueryRecord) -> Result<End> {
        if let Some(WriteIntent {
            location,
            effect,
            usage,
        }) = &record.target
            && let Some(version) = self.tables.find_commit(location, &record.id).await?
        {
            let effect = effect.clone().at_version(version);
            return Ok(End {
                state: QueryState::Done,
                usage: *usage,
                error: None,
                results: None,
                effect,
                billed: true,
            });
        }
        let error = QueryError {
            code: "lost".to_owned(),
            message: "the gateway that ran the query stopped; run it again, this attempt is not billed".to_owned(),
            line: None,
            column: None,
        };
        let (usage, effect) = (Usage::default(), Effect::None);
        Ok(End {
            state: QueryState::Lost,
            usage,
            error: Some(error),
            results: None,
            effect,
            billed: false,
        })
    }

    /// Removes what nobody refers to: deleted tables, files of writes that never committed, uploads, expired results.
    pub(crate) async fn remove_files(&self) -> Result<()> {
        let now = self.clock.now();
        let old = now.minus(self.orphan_age);
        for table in self.catalog.garbage(old).await? {
            let objects = self.tables.remove(&table.location).await?;
            self.catalog.forget_table(&table.uid).await?;
            info!(
                objects,
                "the files of a table that is gone were removed: {objects} objects"
            );
        }
        for project in self.catalog.projects().await? {
            for relation in self.catalog.relations(&project, None).await? {
                if let Relation::Table(table) = relation {
                    let files = self.tables.remove_orphans(&table.location, old).await?;
                    if files > 0 {
                        info!(files, "files that no version refers to were removed: {files}");
                    }
                }
            }
        }
        self.remove_staged(old).await?;
        self.expire_results(now).await
    }

    /// An upload is read once, soon after it arrived.
    async fn remove_staged(&self, older_than: Timestamp) -> Result<()> {
        let store = self.bucket.store();
        let prefix = Bucket::staging_root();
        let mut staged = store.list(Some(&prefix));
        while let Some(object) = staged.try_next().await.map_err(unavailable)? {
            if object.last_modified.timestamp_micros() < older_than.micros() {
                store.delete(&object.location).await.map_err(unavailable)?;
            }
        }
        Ok(())
    }

    async fn expire_results(&self, now: Timestamp) -> Result<()> {
        let expired = self
            .records
            .expire_results(now.minus(self.queries.results_kept()))
            .await?;
        let mut removed = Vec::with_capacity(expired.len());
        for (project, id) in expired {
            match self.bucket.store().delete(&Bucket::result_path(&project, &id)).await {
                // Small results have no object.
                Ok(()) | Err(object_store::Error::NotFound { .. }) => removed.push(id),
                Err(error) => return Err(unavailable(error)),
            }
        }
        self.records.results_removed(&removed).await?;
        Ok(())
    }
}

fn unavailable(error: object_store::Error) -> crate::error::Error {
    crate::error::Error::Unavailable(error.into())
}

fn said(what: &str, done: Result<()>) {
    if let Err(error) = done {
        warn!("{what}, and will be tried again: {error:?}");
    }
}
