//! A key, or a token that was made of one, becomes whoever holds it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use moka::future::Cache;
use wasmhouse_storage::audit::{Actor, Who};
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::people::People as Records;

use crate::access::Caller;
use crate::error::{Error, Result};
use crate::projects::{KEY_PREFIX, OPERATOR_PREFIX, hash};
use crate::tokens::Tokens;

/// How long a key that was good is not looked up again. A key that is taken away at another server is good for so long, and so
/// is a role.
const KEY_REMEMBERED: Duration = Duration::from_secs(5);

/// How many keys are remembered.
const KEYS_REMEMBERED: u64 = 10_000;

/// Whoever may come in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Callers {
    records: Records,
    tokens: Tokens,
    clock: Clock,
    /// Who asked a moment ago, by the hashes of their keys and tokens.
    known: Cache<[u8; 32], Caller>,
    /// How often it was forgotten what is known. What was read before that is not remembered after it.
    forgotten: Arc<AtomicU64>,
}

/// Who runs the house. He may make projects, and reads nothing in them.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    /// Who it is, as it is written down.
    pub(crate) actor: Actor,
}

impl Callers {
    pub(crate) fn new(records: Records, tokens: Tokens, clock: Clock) -> Self {
        let known = Cache::builder()
            .max_capacity(KEYS_REMEMBERED)
            .time_to_live(KEY_REMEMBERED)
            .build();
        Self {
            records,
            tokens,
            clock,
            known,
            forgotten: Arc::default(),
        }
    }

    /// Who holds this key, or shows this token that was made of one.
    pub(crate) async fn open(&self, shown: &str, address: Option<IpAddr>) -> Result<Caller> {
        // The hash is looked up, so how long this takes says nothing about keys that exist.
        let hash = hash(shown);
        let caller = match self.known.get(&hash).await {
            Some(known) => known,
            None => {
                let forgotten = self.forgotten.load(SeqCst);
                let caller = match shown.starts_with(KEY_PREFIX) {
                    true => Caller::new(self.records.open(&hash).await?.ok_or(Error::Unauthenticated)?),
                    false => self.open_with_token(shown).await?,
                };
                if self.forgotten.load(SeqCst) == forgotten {
                    self.known.insert(hash, caller.clone()).await;
                }
                caller
            }
        };
        match caller.expires_at {
            Some(end) if end <= self.clock.now() => Err(Error::Unauthenticated),
            _ => Ok(caller.at(address)),
        }
    }

    /// Who shows this token: whoever holds its key, if that is good.
    async fn open_with_token(&self, token: &str) -> Result<Caller> {
        let claims = self.tokens.read(token)?;
        let opened = self.records.open_by_id(&claims.key).await?;
        let holder = Caller::new(opened.ok_or(Error::Unauthenticated)?);
        let is_his = holder.project == claims.project && holder.actor.who == claims.sub;
        match is_his {
            true => {
                let ends = claims.expires_at();
                Ok(holder.by_token(claims.jti, claims.scope, ends))
            }
            false => Err(Error::Unauthenticated),
        }
    }

    /// Which operator holds this key.
    pub(crate) async fn open_as_operator(&self, key: &str, address: Option<IpAddr>) -> Result<Operator> {
        if !key.starts_with(OPERATOR_PREFIX) {
            return Err(Error::Unauthenticated);
        }
        let name = self.records.operator(&hash(key)).await?;
        let who = Who::Operator(name.ok_or(Error::Unauthenticated)?);
        Ok(Operator {
            actor: Actor {
                who,
                key: None,
                token: None,
                address,
            },
        })
    }

    /// The same caller with what he may do now, if his key is still good: for what began a while ago.
    pub(crate) async fn still(&self, caller: &Caller) -> Result<Caller> {
        let has_ended = |end: Timestamp| end <= self.clock.now();
        let key = caller.actor.key.as_ref().ok_or(Error::Unauthenticated)?;
        let opened = self.records.open_by_id(key).await?.ok_or(Error::Unauthenticated)?;
        match caller.expires_at.is_some_and(has_ended) {
            true => Err(Error::Unauthenticated),
            false => Ok(caller.with_rights_of(&Caller::new(opened))),
        }
    }

    /// What was known of keys may have changed.
    pub(crate) fn forget(&self) {
        self.forgotten.fetch_add(1, SeqCst);
        self.known.invalidate_all();
    }
}
