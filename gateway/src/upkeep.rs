//! The background loop: says that this gateway lives, ends queries that nobody looks after, and removes files nobody needs.
//!
//! Every step can be done twice and by several gateways at once; each is logged where it fails and tried again later.

use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wasmhouse_compute::cluster::Pool;
use wasmhouse_storage::Error as Storage;
use wasmhouse_storage::bucket::Bucket;
use wasmhouse_storage::catalog::{Catalog, Effect, Relation};
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::money::Free;
use wasmhouse_storage::people::Defaults;
use wasmhouse_storage::queries::{
    End, Queries as Records, QueryError, QueryRecord, QueryState, Settled, Usage, WriteIntent,
};
use wasmhouse_storage::tables::{CommitNote, Tables};

use crate::billing::price::Counts;
use crate::billing::receipt::Receipt;
use crate::billing::{Billing, Terms};
use crate::config::Config;
use crate::error::Result;
use crate::queries::Queries;
use crate::quotas::Quotas;

/// How often a gateway that is not alone asks whether its queries are to stop.
const CANCEL_EVERY: Duration = Duration::from_millis(500);

/// The background loop. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upkeep {
    every: Duration,
    /// Whether callers of other gateways may want queries of this one stopped.
    has_neighbours: bool,
    files_every: Duration,
    lease: Duration,
    orphan_age: Duration,
    catalog: Catalog,
    records: Records,
    tables: Tables,
    bucket: Bucket,
    clock: Clock,
    queries: Queries,
    pool: Pool,
    billing: Billing,
    quotas: Quotas,
    idle: Duration,
}

impl Upkeep {
    #[expect(
        clippy::too_many_arguments,
        reason = "the one place where the parts that upkeep looks after are handed over"
    )]
    pub(crate) fn new(
        config: &Config,
        catalog: Catalog,
        records: Records,
        tables: Tables,
        bucket: Bucket,
        clock: Clock,
        queries: Queries,
        pool: Pool,
        billing: Billing,
        quotas: Quotas,
    ) -> Self {
        Self {
            every: Duration::from_secs(config.upkeep.every_s),
            has_neighbours: !config.is_alone(),
            files_every: Duration::from_secs(config.upkeep.files_every_s),
            lease: Duration::from_secs(config.upkeep.lease_s),
            orphan_age: Duration::from_secs(config.upkeep.orphan_s),
            catalog,
            records,
            tables,
            bucket,
            clock,
            queries,
            pool,
            billing,
            quotas,
            idle: Duration::from_secs(config.workers.idle_s),
        }
    }

    /// Looks after the house until `stop`. A step that is left in the middle is done again some other time.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.look_after()).await;
    }

    async fn look_after(&self) {
        let mut tick = tokio::time::interval(self.every);
        // Listing a bucket costs requests; once in a while is enough.
        let mut files_tick = tokio::time::interval(self.files_every);
        let mut cancel_tick = tokio::time::interval(CANCEL_EVERY);
        // Whatever asks the bucket may take its time; leases do not.
        let files = async {
            loop {
                files_tick.tick().await;
                said(
                    "workers were not forgotten",
                    self.pool.forget().await.map_err(Into::into),
                );
                self.remove_files().await;
            }
        };
        let mut lost_tick = tokio::time::interval(self.every);
        let lost = async {
            loop {
                lost_tick.tick().await;
                said("lost queries were not ended", self.end_lost().await);
            }
        };
        let leases = async {
            loop {
                tokio::select! {
                    _ = tick.tick() => {
                        said("workers were not looked after", self.pool.look_after(self.idle).await.map_err(Into::into));
                        said("queries were not renewed", self.queries.renew().await);
                        self.quotas.forget_idle();
                        said("prices were not read", self.billing.reload().await);
                    }
                    _ = cancel_tick.tick(), if self.has_neighbours => {
                        said("orders to stop were not heard", self.queries.hear_cancel_requests().await);
                    }
                }
            }
        };
        tokio::join!(files, lost, leases);
    }

    /// Ends the queries that an earlier process left behind, when nobody else can have started any.
    pub(crate) async fn end_all(&self) {
        match self.records.lost(Timestamp::from_micros(i64::MAX)).await {
            Ok(lost) => self.end_each(&lost).await,
            Err(error) => said("lost queries were not ended", Err(error.into())),
        }
    }

    /// Ends the queries whose gateway is gone: as done if their commit is in the log, as lost if not.
    async fn end_lost(&self) -> Result<()> {
        let now = self.clock.now();
        let mut lost = self.records.lost(now).await?;
        // A gateway that was only slow may still be at its commit; it gets a second lease's time to finish.
        lost.retain(|record| record.state != QueryState::Committing || now.since(record.lease_until) >= self.lease);
        self.end_each(&lost).await;
        Ok(())
    }

    /// One that cannot be ended keeps nobody else waiting.
    async fn end_each(&self, lost: &[QueryRecord]) {
        for record in lost {
            said("a lost query was not ended", self.end(record).await);
        }
    }

    async fn end(&self, record: &QueryRecord) -> Result<()> {
        let end = self.end_of(record).await?;
        let mut state = end.state;
        let settled = match self.records.end_lost(record, end).await {
            // It made a table whose name somebody else has by now, or whose dataset is gone. Nobody ever sees it.
            Err(Storage::AlreadyExists(_) | Storage::Conflict(_) | Storage::NotFound(_)) => {
                state = QueryState::Lost;
                self.records.end(&record.id, self.lost(record)).await?
            }
            settled => settled?,
        };
        if !matches!(settled, Settled::Already(_)) {
            info!(query.id = %record.id, query.state = %state, "a query that nobody looked after was ended: {state}");
        }
        Ok(())
    }

    async fn end_of(&self, record: &QueryRecord) -> Result<End> {
        let Some(WriteIntent {
            location,
            since,
            effect,
            usage,
            cost,
            receipt,
        }) = &record.target
        else {
            return Ok(self.lost(record));
        };
        let note = CommitNote {
            query: record.id.clone(),
            operation: "WRITE",
            at: self.clock.now(),
            since: *since,
        };
        if let Some(version) = self.tables.find_commit_or_fence(location, &note).await? {
            let effect = effect.clone().at_version(version);
            let cost = match cost {
                Some(cost) => cost.clone(),
                None => self.terms(record).cost(Counts::from(usage))?,
            };
            return Ok(End {
                state: QueryState::Done,
                usage: *usage,
                error: None,
                results: None,
                profile: None,
                effect,
                receipt: match receipt {
                    Some(receipt) => Some(receipt.clone()),
                    // What it read, an older gateway has not said.
                    None => Some(
                        self.billing
                            .receipt(&Receipt::of(record, QueryState::Done, *usage, &cost))?,
                    ),
                },
                cost,
            });
        }
        Ok(self.lost(record))
    }

    /// How a query ends that nobody looks after any more.
    fn lost(&self, record: &QueryRecord) -> End {
        let error = QueryError {
            code: "lost".to_owned(),
            message: "the gateway that ran the query stopped; run it again, this attempt is not billed".to_owned(),
            line: None,
            column: None,
        };
        let (state, usage) = (QueryState::Lost, Usage::default());
        let cost = self.terms(record).free(Free::Lost);
        let receipt = self.billing.receipt(&Receipt::of(record, state, usage, &cost)).ok();
        End {
            state,
            usage,
            error: Some(error),
            results: None,
            profile: None,
            effect: Effect::None,
            cost,
            receipt,
        }
    }

    fn terms(&self, record: &QueryRecord) -> Terms {
        self.billing
            .terms(record.created_at, Defaults::default(), Defaults::default())
    }

    /// Removes what nobody refers to: deleted tables, files of writes that never committed, uploads, expired results. What
    /// cannot be removed keeps nothing else waiting.
    async fn remove_files(&self) {
        let now = self.clock.now();
        let old = now.minus(self.orphan_age);
        said("deleted tables were not removed", self.remove_deleted(old).await);
        said("files of tables were not looked at", self.remove_orphans(old).await);
        said("drafts were not removed", self.remove_drafts(old).await);
        let uploads = self.remove_below(&Bucket::staging_root(), old).await;
        said("uploads were not removed", uploads);
        said("results were not expired", self.expire_results(now).await);
        // Results that no record knows: their gateway was killed before it could write down where they are.
        let forgotten = old.minus(self.queries.results_kept());
        let results = self.remove_below(&Bucket::results_root(), forgotten).await;
        said("forgotten results were not removed", results);
    }

    async fn remove_deleted(&self, older_than: Timestamp) -> Result<()> {
        for table in self.catalog.garbage(older_than).await? {
            let removed = self.tables.remove(&table.location).await;
            let Ok(objects) = removed else {
                said(
                    "the files of a table that is gone were not removed",
                    removed.map(drop).map_err(Into::into),
                );
                continue;
            };
            self.catalog.forget_table(&table.uid).await?;
            info!(
                objects,
                "the files of a table that is gone were removed: {objects} objects"
            );
        }
        Ok(())
    }

    async fn remove_orphans(&self, older_than: Timestamp) -> Result<()> {
        for project in self.catalog.projects().await? {
            for relation in self.catalog.relations(&project, None).await? {
                let Relation::Table(table) = relation else { continue };
                let live = async || self.records.live().await;
                match self.tables.remove_orphans(&table.location, older_than, live).await {
                    Ok(0) => {}
                    Ok(files) => info!(files, "files that no version refers to were removed: {files}"),
                    Err(error) => said("the files of a table were not looked at", Err(error.into())),
                }
            }
        }
        Ok(())
    }

    async fn remove_drafts(&self, older_than: Timestamp) -> Result<()> {
        let files = self.bucket.remove_drafts(older_than).await?;
        if files > 0 {
            info!(files, "what unfinished writes left was removed: {files} files");
        }
        Ok(())
    }

    /// Removes old objects that are named after a query, unless that query still runs.
    async fn remove_below(&self, prefix: &Path, older_than: Timestamp) -> Result<()> {
        let store = self.bucket.store();
        let mut objects = store.list(Some(prefix));
        let mut old = Vec::new();
        while let Some(object) = objects.try_next().await.map_err(unavailable)? {
            if object.last_modified.timestamp_micros() < older_than.micros() {
                old.push(object.location);
            }
        }
        if old.is_empty() {
            return Ok(());
        }
        let live = self.records.live().await?;
        old.retain(|path| !Bucket::query_of(path).is_some_and(|query| live.contains(&query)));
        for path in old {
            match store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(unavailable(error)),
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
