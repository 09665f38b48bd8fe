//! Projects, and the making of keys that open them.

use wasmhouse_storage::audit::Actor;
use wasmhouse_storage::catalog::Catalog;
use wasmhouse_storage::clock::Clock;
use wasmhouse_storage::ids::ProjectId;
use wasmhouse_storage::people::{NewKey, People as Records};

use crate::error::{Error, Result};

/// What every key begins with, so that it is recognised where it should not be.
pub(crate) const KEY_PREFIX: &str = "wh_";

/// What a key begins with that may do less than everything: programs from before there were such keys do not know what is kept of
/// it, and do not take it for one that may.
const NEW_PREFIX: &str = "wh_k_";

/// What a key of the operators begins with.
pub(crate) const OPERATOR_PREFIX: &str = "wh_op_";

/// All projects, and the making of keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Projects {
    catalog: Catalog,
    records: Records,
    clock: Clock,
}

impl Projects {
    pub(crate) fn new(catalog: Catalog, clock: Clock) -> Self {
        let records = Records::new(&catalog);
        Self {
            catalog,
            records,
            clock,
        }
    }

    /// Every project, by name.
    pub(crate) async fn list(&self) -> Result<Vec<ProjectId>> {
        Ok(self.catalog.projects().await?)
    }

    /// Creates a project and its first key. The key is shown this once; only its hash is kept.
    pub(crate) async fn create(&self, project: &ProjectId, by: &Actor) -> Result<String> {
        let key = new_key(NEW_PREFIX);
        self.records.create_project(project, &hash(&key), by).await?;
        Ok(key)
    }

    /// A further key. It is shown this once.
    pub(crate) async fn create_key(&self, project: &ProjectId, new: &NewKey, by: &Actor) -> Result<String> {
        let now = self.clock.now();
        if let Some(expires_at) = new.expires_at.filter(|expires_at| *expires_at <= now) {
            return Err(Error::InvalidRequest(format!(
                "a key that ends at {} has ended already",
                expires_at.to_rfc3339()
            )));
        }
        check_name(&new.name)?;
        let key = new_key(NEW_PREFIX);
        self.records.create_key(project, new, &hash(&key), by).await?;
        Ok(key)
    }

    /// A key for the operators. It is shown this once.
    pub(crate) async fn create_operator_key(&self, name: &str) -> Result<String> {
        check_name(name)?;
        let key = new_key(OPERATOR_PREFIX);
        self.records.create_operator_key(name, &hash(&key)).await?;
        Ok(key)
    }

    /// The first key for the operators, unless they ever had one.
    pub(crate) async fn first_operator_key(&self) -> Result<Option<String>> {
        if self.records.has_operators().await? {
            return Ok(None);
        }
        match self.create_operator_key("first").await {
            // Another server of the house was first.
            Err(Error::AlreadyExists(_)) => Ok(None),
            made => made.map(Some),
        }
    }
}

fn new_key(prefix: &str) -> String {
    let secret: [u8; 32] = rand::random();
    format!("{prefix}{}", blake3::Hash::from_bytes(secret).to_hex())
}

/// What is kept of a key.
pub(crate) fn hash(key: &str) -> [u8; 32] {
    match key.starts_with(NEW_PREFIX) {
        true => blake3::derive_key("wasmhouse 2026-11 api key", key.as_bytes()),
        false => *blake3::hash(key.as_bytes()).as_bytes(),
    }
}

/// A key is called something that fits into a line.
fn check_name(name: &str) -> Result<()> {
    let fits = (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    match fits {
        true => Ok(()),
        false => Err(Error::InvalidRequest(
            "the name of a key has 1 to 100 characters, none of them a control character".to_owned(),
        )),
    }
}
