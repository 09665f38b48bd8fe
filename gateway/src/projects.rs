//! Projects and the keys that open them.

use std::time::Duration;

use moka::future::Cache;
use wasmhouse_storage::catalog::Catalog;
use wasmhouse_storage::ids::ProjectId;

use crate::access::Caller;
use crate::error::{Error, Result};

/// What every key begins with, so that it is recognised where it should not be.
const KEY_PREFIX: &str = "wh_";

/// How long a key that was good is not looked up again. A key that is taken away is good for so long.
const KEY_REMEMBERED: Duration = Duration::from_secs(5);

/// How many keys are remembered.
const KEYS_REMEMBERED: u64 = 10_000;

/// Projects and the keys that open them.
#[derive(Clone)]
pub(crate) struct Projects {
    catalog: Catalog,
    /// Whose keys were asked for a moment ago, by their hashes.
    known: Cache<[u8; 32], ProjectId>,
}

impl Projects {
    pub(crate) fn new(catalog: Catalog) -> Self {
        let known = Cache::builder()
            .max_capacity(KEYS_REMEMBERED)
            .time_to_live(KEY_REMEMBERED)
            .build();
        Self { catalog, known }
    }

    /// Creates a project and its first key. The key is shown this once; only its hash is kept.
    pub(crate) async fn create(&self, project: &ProjectId) -> Result<String> {
        self.catalog.create_project(project).await?;
        self.create_key(project, "first").await
    }

    /// A further key for a project.
    pub(crate) async fn create_key(&self, project: &ProjectId, name: &str) -> Result<String> {
        let secret: [u8; 32] = rand::random();
        let key = format!("{KEY_PREFIX}{}", blake3::Hash::from_bytes(secret).to_hex());
        self.catalog.add_key(project, name, &hash(&key)).await?;
        Ok(key)
    }

    /// True before the first project.
    pub(crate) async fn is_empty(&self) -> Result<bool> {
        Ok(self.catalog.projects().await?.is_empty())
    }

    /// Whose key this is.
    pub(crate) async fn open(&self, key: &str) -> Result<Caller> {
        if !key.starts_with(KEY_PREFIX) {
            return Err(Error::Unauthenticated);
        }
        // The hash is looked up, so how long this takes says nothing about keys that exist.
        let hash = hash(key);
        if let Some(project) = self.known.get(&hash).await {
            return Ok(Caller { project });
        }
        let project = self.catalog.project_of_key(&hash).await?;
        let project = project.ok_or(Error::Unauthenticated)?;
        self.known.insert(hash, project.clone()).await;
        Ok(Caller { project })
    }
}

fn hash(key: &str) -> [u8; 32] {
    *blake3::hash(key.as_bytes()).as_bytes()
}
