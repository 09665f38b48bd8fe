//! What bills are checked with: the price lists that were ever in force, and the keys that receipts were ever signed with.
//!
//! # Invariants
//! - A list or a key that was published is never changed or removed; both databases refuse it.

use std::time::Duration;

use crate::catalog::Catalog;
use crate::catalog::db::{self, Db};
use crate::clock::Timestamp;
use crate::{Error, Result};

/// The published lists and keys of the house. A clone sees the same.
#[derive(Clone, Debug)]
pub struct Published {
    db: Db,
}

/// How long before it comes into force a price list is published. Every gateway has heard of it by then.
pub const NOTICE: Duration = Duration::from_secs(60);

/// A price list, as text that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// What it is called.
    pub version: String,
    /// When it comes into force.
    pub valid_from: Timestamp,
    /// What it says.
    pub text: String,
}

/// The public half of a key that receipts are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// What receipts call it.
    pub id: String,
    /// Ed25519, in hexadecimal.
    pub public_key: String,
}

impl Published {
    /// Those kept beside `catalog`.
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            db: catalog.db().clone(),
        }
    }

    /// Publishes price lists, all or none. Refused if a version was published with another text, if a list comes into force before
    /// anybody can know it, unless none was ever published, or at the moment at which another one does.
    pub async fn prices(&self, lists: &[Prices]) -> Result<()> {
        let soonest = self.db.now().plus(NOTICE);
        let mut tx = self.db.begin().await?;
        let published = db::money::prices(&mut tx).await?;
        for new in lists {
            let version = &new.version;
            match published.iter().find(|old| old.version == *version) {
                Some(old) if old == new => continue,
                Some(_) => {
                    return Err(Error::Conflict(format!(
                        "the price list {version} was published with other prices; give the new ones a version of their own"
                    )));
                }
                None if !published.is_empty() && new.valid_from < soonest => {
                    return Err(Error::Conflict(format!(
                        "the price list {version} would be in force since {}; a list is published at least {} s before it comes \
                         into force, so that nobody pays prices that he could not know",
                        new.valid_from.to_rfc3339(),
                        NOTICE.as_secs()
                    )));
                }
                None => {}
            }
            if let Some(old) = published.iter().find(|old| old.valid_from == new.valid_from) {
                return Err(Error::Conflict(format!(
                    "the price list {version} comes into force with {}; give it another moment",
                    old.version
                )));
            }
            if !db::money::publish_prices(&mut tx, new).await? {
                return Err(Error::Conflict(format!(
                    "another server publishes the price list {version}; start again"
                )));
            }
        }
        tx.commit().await
    }

    /// All price lists, the newest first.
    pub async fn price_lists(&self) -> Result<Vec<Prices>> {
        db::money::prices(&mut *self.db.reader().await?).await
    }

    /// Publishes a key.
    pub async fn key(&self, key: &SigningKey) -> Result<()> {
        let now = self.db.now();
        db::money::publish_key(&mut *self.db.writer().await?, &key.id, &key.public_key, now).await
    }

    /// Every key.
    pub async fn keys(&self) -> Result<Vec<SigningKey>> {
        let keys = db::money::signing_keys(&mut *self.db.reader().await?).await?;
        Ok(keys
            .into_iter()
            .map(|(id, public_key)| SigningKey { id, public_key })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::db::tests::worlds;

    use super::*;

    #[tokio::test]
    async fn what_was_published_is_there_for_ever() {
        for world in worlds().await {
            let published = Published::new(&world.catalog);
            let list = |version: &str, valid_from, text: &str| Prices {
                version: version.to_owned(),
                valid_from,
                text: text.to_owned(),
            };
            let (past, future) = (Timestamp::from_micros(1), world.clock.now().plus(NOTICE));
            let [first, second] = [list("1", past, "a"), list("2", future, "b")];
            published.prices(std::slice::from_ref(&first)).await.expect("the first");
            published
                .prices(&[first.clone(), second.clone()])
                .await
                .expect("a new one");
            published.prices(std::slice::from_ref(&second)).await.expect("the same");
            for refused in [
                list("1", past, "c"),
                list("1", future, "a"),
                list("3", world.clock.now(), "c"),
                list("3", future, "c"),
            ] {
                let later = list("4", future.plus(NOTICE), "d");
                let answer = published.prices(&[later, refused.clone()]).await;
                assert!(matches!(answer, Err(Error::Conflict(_))), "{refused:?}: {answer:?}");
            }
            assert_eq!(
                published.price_lists().await.expect("lists"),
                [second, first],
                "all or none"
            );

            let key = SigningKey {
                id: "k1".to_owned(),
                public_key: "00".to_owned(),
            };
            published.key(&key).await.expect("new");
            published.key(&key).await.expect("the same");
            assert_eq!(published.keys().await.expect("keys"), [key]);

            for change in [
                "update price_lists set entry = ''",
                "delete from price_lists",
                "update signing_keys set public_key = ''",
                "delete from signing_keys",
            ] {
                assert!(world.tamper(change).await.is_err(), "{change}");
            }
            world.close().await;
        }
    }
}
