//! The bucket: where bytes are kept, and the only speller of object paths.
//!
//! # Invariants
//! - Nobody else writes an object path. What is asked for here by name (a table, a result) is found where it was put.
//! - DataFusion and Delta see one root, [`Bucket::ROOT`], whatever the bucket is made of. A cache keyed by path alone
//!   is therefore right.
//! - A bucket is used only if it refuses to create a key twice ([`Bucket::self_test`]): that refusal is what makes a
//!   commit happen once.
//! - On a local disk an acknowledged write survives a power cut; see [`local`].

mod local;
mod prefix;
mod reads;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::clock::Timestamp;
use crate::ids::{ProjectId, QueryId, TableName};
use crate::tables::TableLocation;
use crate::{Error, Result};

pub(crate) use reads::ReadCount;
pub use reads::Reads;

/// The longest name of an export, in bytes.
const MAX_EXPORT_NAME_BYTES: usize = 512;

/// Which bucket, and how to reach it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketConfig {
    /// `file:///abs/dir/`, `s3://bucket/prefix`, `gs://…`, `az://…` or, for tests, `memory:///`.
    pub url: Url,
    /// Settings of the object store by their usual names, for example `aws_region`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl fmt::Debug for BucketConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may be secrets.
        let options: Vec<_> = self.options.keys().collect();
        f.debug_struct("BucketConfig")
            .field("url", &self.url.as_str())
            .field("options", &options)
            .finish()
    }
}

/// An open bucket. Clones are the same bucket.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    reads: ReadCount,
    /// The directory, if it is one.
    disk: Option<Arc<local::DurableDisk>>,
    /// What an outsider puts before a path: `/abs/dir` or `s3://bucket/prefix`, without a slash at the end.
    outside: String,
}

impl Bucket {
    /// The one virtual root that DataFusion and Delta know.
    pub const ROOT: &str = "wh://w";

    /// [`Self::ROOT`] as a URL.
    pub fn root_url() -> Url {
        Url::parse(Self::ROOT).expect("the root is a valid URL")
    }

    /// Opens the bucket. A local directory is created if it is not there; nothing else is written or read.
    pub fn open(config: &BucketConfig) -> Result<Self> {
        let (scheme, prefix) = ObjectStoreScheme::parse(&config.url)
            .map_err(|_| Error::Invalid(format!("no object store is known for {}", config.url)))?;
        check_options(&scheme, &config.options)?;

        if scheme == ObjectStoreScheme::Local {
            return Self::open_directory(&config.url);
        }
        let (store, _) = object_store::parse_url_opts(&config.url, &config.options)
            .map_err(|error| Error::Invalid(format!("the bucket {} cannot be opened: {error}", config.url)))?;
        let store: Arc<dyn ObjectStore> = match prefix.as_ref().is_empty() {
            true => Arc::from(store),
            false => Arc::new(prefix::Below::new(store, prefix)),
        };
        Ok(Self::new(store, None, config.url.as_str()))
    }

    fn open_directory(url: &Url) -> Result<Self> {
        let directory: PathBuf = url
            .to_file_path()
            .map_err(|()| Error::Invalid(format!("{url} is not the URL of an absolute directory")))?;
        let disk = local::DurableDisk::open(&directory).map_err(|error| {
            Error::Invalid(format!(
                "the bucket directory {} cannot be used: {error}",
                directory.display()
            ))
        })?;
        let outside = disk.root().display().to_string();
        let disk = Arc::new(disk);
        let store = Arc::clone(&disk) as Arc<dyn ObjectStore>;
        Ok(Self::new(store, Some(disk), &outside))
    }

    fn new(store: Arc<dyn ObjectStore>, disk: Option<Arc<local::DurableDisk>>, outside: &str) -> Self {
        let reads = ReadCount::default();
        Self {
            store: Arc::new(reads::Counted::new(store, reads.clone())),
            reads,
            disk,
            outside: outside.trim_end_matches('/').to_owned(),
        }
    }

    /// The same bucket seen through another store: a cache, a meter, a test's saboteur.
    #[must_use]
    pub fn with_store(&self, store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            reads: self.reads.clone(),
            disk: self.disk.clone(),
            outside: self.outside.clone(),
        }
    }

    /// Refuses a bucket that lets two writers create the same key, because there the second commit would overwrite
    /// the first. Some S3 servers ignore `If-None-Match` without saying so.
    pub async fn self_test(&self) -> Result<()> {
        let key = Path::from(format!("self-test/{:032x}", rand::random::<u128>()));
        let create = || PutOptions::from(PutMode::Create);

        let first = self.store.put_opts(&key, "first".into(), create()).await;
        let second = match &first {
            Ok(_) => Some(self.store.put_opts(&key, "second".into(), create()).await),
            Err(_) => None,
        };
        // Left behind it would do no harm; the verdict is what matters.
        let _ = self.store.delete(&key).await;

        first?;
        match second {
            Some(Err(object_store::Error::AlreadyExists { .. })) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            _ => Err(Error::Invalid(format!(
                "the object store at {} creates a key that already exists (it ignores If-None-Match), so it would lose \
                 commits; use another one",
                self.outside
            ))),
        }
    }

    /// The store; paths are relative to the bucket's root.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// What this process has read of the bucket so far.
    pub fn reads(&self) -> Reads {
        self.reads.so_far()
    }

    /// Where it is counted what was read.
    pub(crate) fn read_count(&self) -> &ReadCount {
        &self.reads
    }

    /// What an external engine opens to read `path`: `/abs/dir/…` or `s3://bucket/prefix/…`.
    pub fn public_url(&self, path: &Path) -> String {
        format!("{}/{path}", self.outside)
    }

    /// Where a table lives. A name that is used again after a drop is another generation, in another place.
    pub fn table_path(project: &ProjectId, name: &TableName, generation: u32) -> TableLocation {
        let (dataset, table) = (name.dataset(), name.table());
        TableLocation::spelled(match generation {
            0 | 1 => format!("tables/{project}/{dataset}/{table}"),
            _ => format!("tables/{project}/{dataset}/{table}.{generation}"),
        })
    }

    /// Where an uploaded file waits for the query that loads it.
    pub fn staging_path(project: &ProjectId, upload: &QueryId) -> Path {
        Path::from(format!("staging/{project}/{upload}"))
    }

    /// Where all uploaded files wait.
    pub fn staging_root() -> Path {
        Path::from("staging")
    }

    /// Which query an object below [`Self::staging_root`] or [`Self::results_root`] belongs to, by its path.
    pub fn query_of(path: &Path) -> Option<QueryId> {
        path.filename()?.parse().ok()
    }

    /// Removes the objects below a folder that `is_unwanted` names. One that is gone already is gone.
    pub async fn remove_below(&self, folder: &Path, is_unwanted: impl Fn(&Path) -> bool) -> Result<()> {
        let there: Vec<ObjectMeta> = self.store.list(Some(folder)).try_collect().await?;
        for object in there.iter().filter(|object| is_unwanted(&object.location)) {
            match self.store.delete(&object.location).await {
                Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Where the rows of all queries wait.
    pub fn results_root() -> Path {
        Path::from("results")
    }

    /// Removes what writes that never ended have left where no listing shows it: on a local disk the drafts of objects.
    /// Object stores have a rule of their own for uploads that nobody completes. Says how many there were.
    pub async fn remove_drafts(&self, older_than: Timestamp) -> Result<u64> {
        match &self.disk {
            Some(disk) => Ok(disk.remove_drafts(older_than).await?),
            None => Ok(0),
        }
    }

    /// Where the rows of a query wait for their reader.
    pub fn result_path(project: &ProjectId, query: &QueryId) -> Path {
        Path::from(format!("results/{project}/{query}"))
    }

    /// The directory of one export: below the name the tenant chose, apart from earlier exports of the same name.
    pub fn export_path(project: &ProjectId, name: &str, query: &QueryId) -> Result<Path> {
        let is_segment = |segment: &str| {
            !segment.is_empty()
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
                && !segment.bytes().all(|b| b == b'.')
        };
        if name.len() > MAX_EXPORT_NAME_BYTES || !name.split('/').all(is_segment) {
            return Err(Error::Invalid(format!(
                "'{}' cannot name an export: it must be segments of letters, digits, '_', '-' and '.', separated by \
                 '/'",
                name.chars().take(100).collect::<String>()
            )));
        }
        Ok(Path::from(format!("exports/{project}/{name}/{query}")))
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("outside", &self.outside).finish()
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Store;

        match error {
            // Whoever expects these has looked at them before. For everybody else something is not as we left it, and
            // the path is for the log.
            error @ (Store::NotFound { .. }
            | Store::AlreadyExists { .. }
            | Store::Precondition { .. }
            | Store::InvalidPath { .. }
            | Store::NotSupported { .. }
            | Store::NotImplemented { .. }
            | Store::UnknownConfigurationKey { .. }
            | Store::JoinError { .. }) => Self::Internal(error.into()),
            error => Self::Unavailable(error.into()),
        }
    }
}

/// The builders skip a key they do not know. A misspelt `aws_regoin` is better found at start-up.
fn check_options(scheme: &ObjectStoreScheme, options: &BTreeMap<String, String>) -> Result<()> {
    let is_known = |key: &str| match scheme {
        ObjectStoreScheme::AmazonS3 => key.parse::<AmazonS3ConfigKey>().is_ok(),
        ObjectStoreScheme::GoogleCloudStorage => key.parse::<GoogleConfigKey>().is_ok(),
        ObjectStoreScheme::MicrosoftAzure => key.parse::<AzureConfigKey>().is_ok(),
        _ => false,
    };
    match options.keys().find(|key| !is_known(&key.to_ascii_lowercase())) {
        Some(key) => Err(Error::Invalid(format!(
            "'{key}' is not an option of this kind of bucket"
        ))),
        None => Ok(()),
    }
}
