//! The worlds in which tables are tested: a bucket, a clock, and a store that counts and lies.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

use super::{
    CommitNote, Keys, ScanLog, TableLocation, TableSnapshot, Tables, WriteOptions, WrittenFile, stored_schema,
    to_stored, write_files,
};
use crate::Result;
use crate::bucket::{Bucket, BucketConfig};
use crate::clock::{Clock, Timestamp};
use crate::ids::QueryId;

/// A bucket in memory with one table's place in it.
pub(crate) struct World {
    pub(crate) tables: Tables,
    pub(crate) store: Arc<Meddler>,
    pub(crate) at: TableLocation,
    clock: Clock,
}

impl World {
    pub(crate) fn new() -> Self {
        let bucket = memory();
        let store = Arc::new(Meddler::new(bucket.store()));
        let tables = Tables::new(bucket.with_store(Arc::clone(&store) as Arc<dyn ObjectStore>));
        // Objects in memory are as old as they are; the clock stands in the same century.
        Self {
            tables,
            store,
            at: place("orders"),
            clock: Clock::manual(Timestamp::from_micros(1_790_000_000_000_000)),
        }
    }

    /// The same bucket as another process sees it, with nothing cached.
    pub(crate) fn elsewhere(&self) -> Tables {
        Tables::new(self.tables.bucket().clone())
    }

    /// A new query, a moment after the last.
    pub(crate) fn query(&self) -> QueryId {
        self.clock.advance(Duration::from_millis(5));
        QueryId::new(self.clock.now())
    }

    pub(crate) fn note(&self, query: &QueryId) -> CommitNote {
        CommitNote {
            query: query.clone(),
            operation: "WRITE",
            at: self.clock.now(),
            since: None,
        }
    }

    pub(crate) fn fresh_note(&self) -> CommitNote {
        let query = self.query();
        self.note(&query)
    }

    /// `rows` as one file, by a query of its own.
    pub(crate) async fn file(&self, rows: &RecordBatch) -> Vec<WrittenFile> {
        self.files(rows, &WriteOptions::new(self.query(), 0, 0))
            .await
            .expect("the rows can be stored")
    }

    pub(crate) async fn files(&self, rows: &RecordBatch, options: &WriteOptions) -> Result<Vec<WrittenFile>> {
        let schema = stored_schema(&rows.schema())?;
        let rows = to_stored(rows, &schema)?;
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&schema), stream::iter([Ok(rows)]));
        write_files(self.tables.bucket(), &self.at, &schema, Box::pin(stream), options).await
    }

    /// A table of `rows`, one file per batch.
    pub(crate) async fn create(&self, batches: &[RecordBatch]) -> Arc<TableSnapshot> {
        let schema = stored(&batches[0]);
        let mut files = Vec::new();
        for batch in batches {
            files.extend(self.file(batch).await);
        }
        let version = self
            .tables
            .create(&self.at, &schema, files, &self.fresh_note())
            .await
            .expect("the place is free");
        self.tables
            .snapshot(&self.at, version)
            .await
            .expect("the table is there")
    }

    pub(crate) async fn append(&self, rows: &RecordBatch) -> u64 {
        let files = self.file(rows).await;
        self.tables
            .append(&self.at, files, &self.fresh_note())
            .await
            .expect("the table takes rows")
    }

    /// The answer to `sql` about the table `t` at its newest version, and what it read.
    pub(crate) async fn ask(&self, sql: &str) -> (Vec<RecordBatch>, ScanLog) {
        let snapshot = self.tables.latest(&self.at).await.expect("the table is there");
        ask(self.tables.bucket(), &snapshot, sql).await
    }

    /// The answer to `sql`, which is one number.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let (rows, _) = self.ask(sql).await;
        arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(rows[0].column(0)).value(0)
    }
}

pub(crate) async fn ask(bucket: &Bucket, snapshot: &Arc<TableSnapshot>, sql: &str) -> (Vec<RecordBatch>, ScanLog) {
    let scans = ScanLog::default();
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    session.register_object_store(&Bucket::root_url(), bucket.store());
    session
        .register_table("t", snapshot.provider(&Keys::default(), scans.clone()))
        .expect("the name is free");
    let answer = session
        .sql(sql)
        .await
        .expect("the SQL is good")
        .collect()
        .await
        .expect("the table can be read");
    (answer, scans)
}

pub(crate) fn memory() -> Bucket {
    open("memory:///")
}

pub(crate) fn open(url: &str) -> Bucket {
    let url = url.parse().expect("a URL");
    Bucket::open(&BucketConfig {
        url,
        options: Default::default(),
    })
    .expect("the bucket opens")
}

pub(crate) fn place(table: &str) -> TableLocation {
    let project = "acme".parse().expect("a project");
    let name = format!("sales.{table}").parse().expect("a table name");
    Bucket::table_path(&project, &name, 1)
}

pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

pub(crate) fn stored(batch: &RecordBatch) -> SchemaRef {
    stored_schema(&batch.schema()).expect("the types can be stored")
}

/// How a store can be wrong about a put.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lie {
    /// The object is there, and the answer is lost.
    LosesTheAnswer,
    /// The object is there, and a retry inside the client has met it.
    SaysItWasThere,
    /// The object is not there, and the answer is lost.
    NeverArrives,
}

/// A store that counts what it is asked and lies when told to.
#[derive(Debug)]
pub(crate) struct Meddler {
    inner: Arc<dyn ObjectStore>,
    requests: AtomicU64,
    next_log_entry: Mutex<Option<Lie>>,
}

impl Meddler {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            requests: AtomicU64::new(0),
            next_log_entry: Mutex::new(None),
        }
    }

    /// Lies about the next commit.
    pub(crate) fn lie(&self, lie: Lie) {
        *self.next_log_entry.lock().unwrap_or_else(PoisonError::into_inner) = Some(lie);
    }

    /// How many requests there were since the last time.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.swap(0, Ordering::SeqCst)
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }

    fn lie_about(&self, path: &Path) -> Option<Lie> {
        let is_commit = path.as_ref().contains("_delta_log/") && path.as_ref().ends_with(".json");
        is_commit
            .then(|| {
                self.next_log_entry
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take()
            })
            .flatten()
    }
}

impl fmt::Display for Meddler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meddler({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Meddler {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.count();
        let lost = || StoreError::Generic {
            store: "meddler",
            source: "the connection broke".into(),
        };
        match self.lie_about(path) {
            None => self.inner.put_opts(path, payload, options).await,
            Some(Lie::NeverArrives) => Err(lost()),
            Some(Lie::LosesTheAnswer) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(lost())
            }
            Some(Lie::SaysItWasThere) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(StoreError::AlreadyExists {
                    path: path.to_string(),
                    source: "412".into(),
                })
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.count();
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.count();
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.count();
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.count();
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.count();
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.count();
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.count();
        self.inner.copy_opts(from, to, options).await
    }
}

/// A store that creates what already exists, like an S3 server that ignores `If-None-Match`.
#[derive(Debug)]
pub(crate) struct Careless(pub(crate) Arc<dyn ObjectStore>);

impl fmt::Display for Careless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Careless({})", self.0)
    }
}

#[async_trait]
impl ObjectStore for Careless {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> StoreResult<PutResult> {
        options.mode = PutMode::Overwrite;
        self.0.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.0.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.0.copy_opts(from, to, options).await
    }
}
