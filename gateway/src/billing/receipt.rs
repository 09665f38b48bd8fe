//! What a gateway signs about a query that has ended, so that its project can prove what it was told.
//!
//! A receipt is JSON whose bytes are signed with Ed25519 (RFC 8032). The ledger line of the query has the hash of these bytes. The
//! public halves of all keys that were ever used are published (`GET /v1/signing-keys`).

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use jsonwebtoken::EncodingKey;
use serde::{Deserialize, Serialize};
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::{ProjectId, QueryId};
use wasmhouse_storage::ledger::{SignedReceipt, receipt_hash};
use wasmhouse_storage::money::Cost;
use wasmhouse_storage::published::SigningKey as PublicKey;
use wasmhouse_storage::queries::{QueryRecord, QueryState, Usage};
use wasmhouse_storage::{BoxError, tables::Version};

use crate::error::{Error, Result};
use crate::private;

/// What a receipt says. The order of the fields is that of its text; new ones come last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receipt {
    /// Who pays.
    pub(crate) project: ProjectId,
    /// For which query.
    pub(crate) query: QueryId,
    /// BLAKE3 of its text, in hexadecimal.
    pub(crate) sql_hash: String,
    /// What kind of statement it is.
    pub(crate) kind: String,
    /// When it was accepted.
    pub(crate) created_at: Timestamp,
    /// How it ended.
    pub(crate) outcome: QueryState,
    /// What it read.
    pub(crate) tables: Vec<ReadTable>,
    /// What it used.
    pub(crate) usage: Usage,
    /// What it costs.
    pub(crate) cost: Cost,
}

impl Receipt {
    /// Of a query that ended so, and of which nothing was read.
    pub(crate) fn of(record: &QueryRecord, outcome: QueryState, usage: Usage, cost: &Cost) -> Self {
        Self {
            project: record.project.clone(),
            query: record.id.clone(),
            sql_hash: receipt_hash(&record.sql),
            kind: record.kind.clone(),
            created_at: record.created_at,
            outcome,
            tables: Vec::new(),
            usage,
            cost: cost.clone(),
        }
    }
}

/// What a query read of one version of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadTable {
    /// `dataset.table`, as it was called then.
    pub(crate) name: String,
    /// Which version of it.
    pub(crate) version: Version,
    /// The columns.
    pub(crate) columns: Vec<String>,
    /// How many files.
    pub(crate) files: u64,
    /// BLAKE3 of their names in the table's log, in order, each followed by a line feed; in hexadecimal.
    pub(crate) files_hash: String,
    /// The logical bytes of these columns in these files.
    pub(crate) bytes: u64,
}

/// Signs receipts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Signer {
    pair: Arc<Ed25519KeyPair>,
    id: Arc<str>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Signer {
    /// The key in this file, made if there is none.
    pub(crate) fn open_or_make(file: &Path) -> Result<Self, BoxError> {
        if let Err(error) = std::fs::metadata(file)
            && error.kind() == ErrorKind::NotFound
        {
            let seed = blake3::Hash::from_bytes(rand::random()).to_hex();
            private::write(file, &format!("{seed}\n")).map_err(|error| named(file, &error.to_string()))?;
        }
        Self::open(file)
    }

    /// The key in this file: 32 bytes in hexadecimal, the seed of Ed25519.
    pub(crate) fn open(file: &Path) -> Result<Self, BoxError> {
        let text = std::fs::read_to_string(file).map_err(|error| named(file, &error.to_string()))?;
        let seed = blake3::Hash::from_hex(text.trim()).map_err(|_| {
            named(
                file,
                "it must be 64 hexadecimal digits, as `openssl rand -hex 32` writes them",
            )
        })?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_bytes()).map_err(|_| named(file, "it is no key"))?;
        let id = id_of(pair.public_key().as_ref());
        Ok(Self {
            pair: Arc::new(pair),
            id: id.into(),
        })
    }

    /// What others check its signatures with.
    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey {
            id: self.id.to_string(),
            public_key: hex::encode(self.pair.public_key().as_ref()),
        }
    }

    /// The same key, for tokens. What is signed there is no receipt: it is base64 with dots, and a receipt is JSON.
    pub(crate) fn jwt_key(&self) -> Result<EncodingKey> {
        let pair = self.pair.to_pkcs8v1().map_err(|error| Error::Internal(error.into()))?;
        Ok(EncodingKey::from_ed_der(pair.as_ref()))
    }

    /// Signs this text.
    pub(crate) fn sign(&self, text: String) -> SignedReceipt {
        SignedReceipt {
            signature: hex::encode(self.pair.sign(text.as_bytes()).as_ref()),
            key: self.id.to_string(),
            text,
        }
    }

    /// Signs a receipt.
    pub(crate) fn receipt(&self, receipt: &Receipt) -> Result<SignedReceipt> {
        let text = serde_json::to_string(receipt).map_err(|error| Error::Internal(error.into()))?;
        Ok(self.sign(text))
    }
}

fn named(file: &Path, what: &str) -> String {
    format!("the signing key {}: {what}", file.display())
}

/// Whether this key has signed this text.
pub(crate) fn is_signed(public_key: &str, text: &str, signature: &str) -> bool {
    let (Some(key), Some(signature)) = (unhex(public_key), unhex(signature)) else {
        return false;
    };
    let key = UnparsedPublicKey::new(&ED25519, key);
    key.verify(text.as_bytes(), &signature).is_ok()
}

/// What receipts call the key with this public half.
pub(crate) fn id_of(public_key: &[u8]) -> String {
    let hash = blake3::hash(public_key).to_hex();
    hash[..16].to_owned()
}

/// The bytes of lower-case hexadecimal digits. There is one way to write them, so that a changed letter is a changed text.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).ok().filter(|bytes| hex::encode(bytes) == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_what_it_signed_is_signed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("receipts.key");
        let signer = Signer::open_or_make(&file).expect("a new key");
        let again = Signer::open(&file).expect("the same");
        let public = signer.public_key();
        assert_eq!(public, again.public_key());

        let signed = again.sign("what I say".to_owned());
        assert_eq!(signed.key, public.id);
        assert!(is_signed(&public.public_key, &signed.text, &signed.signature));
        assert!(!is_signed(&public.public_key, "what you say", &signed.signature));
        let upper = signed.signature.to_uppercase();
        assert!(
            !is_signed(&public.public_key, &signed.text, &upper),
            "one way to write it"
        );
        let other = Signer::open_or_make(&folder.path().join("other.key")).expect("another key");
        assert!(
            Signer::open(&folder.path().join("none.key")).is_err(),
            "a file that is named must be there"
        );
        assert!(!is_signed(
            &other.public_key().public_key,
            &signed.text,
            &signed.signature
        ));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("receipts.key");
        std::fs::write(&file, "secret").expect("a file");
        let error = Signer::open_or_make(&file).expect_err("it is no key").to_string();
        assert!(
            error.contains("receipts.key") && error.contains("64 hexadecimal digits"),
            "{error}"
        );
    }
}
