//! Money: which prices are in force, and what one query may cost.

pub(crate) mod export;
pub(crate) mod invoice;
pub(crate) mod price;
pub(crate) mod receipt;
pub(crate) mod spending;
pub(crate) mod verify;
pub(crate) mod webhook;

use std::sync::{Arc, PoisonError, RwLock};

use wasmhouse_compute::{Code, SqlError};
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ledger::SignedReceipt;
use wasmhouse_storage::money::{Cost, Free, Money};
use wasmhouse_storage::people::Defaults;
use wasmhouse_storage::published::{Prices, Published, SigningKey as PublicKey};

use self::price::{Counts, PriceList, TooMuch, bytes_within, cost, free, in_force};
use self::receipt::{Receipt, Signer};
use crate::config::BillingConfig;
use crate::error::{Error, Result};

/// The prices of the house. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Billing(Arc<House>);

#[derive(Debug)]
struct House {
    /// Every list that was ever published, the newest first: all gateways price by these, whatever each is configured with.
    lists: RwLock<Vec<Arc<PriceList>>>,
    /// What a query may cost that does not say.
    max_cost: Money,
    published: Published,
    signer: Signer,
}

impl Billing {
    /// Publishes the price lists that are configured, so that whoever has paid them can check it for ever.
    pub(crate) async fn open(config: &BillingConfig, published: Published, signer: Signer) -> Result<Self> {
        published.key(&signer.public_key()).await?;
        let known = read(&published).await?;
        let currency = known.first().map(|list| list.currency.clone());
        let mut new = Vec::new();
        for list in &config.prices {
            if currency.as_ref().is_some_and(|currency| *currency != list.currency) {
                return Err(Error::Conflict(format!(
                    "the price list {} is in {}, and those before it in {}; a house has one currency",
                    list.version,
                    list.currency,
                    currency.unwrap_or_default()
                )));
            }
            new.push(Prices {
                version: list.version.clone(),
                valid_from: Timestamp::from_micros(list.from.timestamp_micros()),
                text: list.text()?,
            });
        }
        published.prices(&new).await?;
        let lists = read(&published).await?;
        Ok(Self(Arc::new(House {
            lists: RwLock::new(lists),
            max_cost: config.max_cost,
            published,
            signer,
        })))
    }

    /// Hears of lists that others have published. Each is heard of before it comes into force.
    pub(crate) async fn reload(&self) -> Result<()> {
        let lists = read(&self.0.published).await?;
        *self.0.lists.write().unwrap_or_else(PoisonError::into_inner) = lists;
        Ok(())
    }

    /// All lists that were ever published, the newest first.
    pub(crate) async fn published(&self) -> Result<Vec<Arc<PriceList>>> {
        read(&self.0.published).await
    }

    /// Every key that receipts were ever signed with.
    pub(crate) async fn keys(&self) -> Result<Vec<PublicKey>> {
        Ok(self.0.published.keys().await?)
    }

    /// Signs what a query used and costs.
    pub(crate) fn receipt(&self, receipt: &Receipt) -> Result<SignedReceipt> {
        self.0.signer.receipt(receipt)
    }

    /// Signs a text, such as the end of an exported ledger.
    pub(crate) fn sign(&self, text: String) -> SignedReceipt {
        self.0.signer.sign(text)
    }

    /// What a query that is accepted now may cost: what it says itself, or else its asker, his project, the house. It keeps its
    /// prices to its end, whatever comes into force meanwhile.
    pub(crate) fn terms(&self, at: Timestamp, asked: Defaults, of_asker: Defaults) -> Terms {
        let lists = self.0.lists.read().unwrap_or_else(PoisonError::into_inner);
        let prices = in_force(&lists, at).expect("there is a list, as the settings were checked");
        let most = asked.or(of_asker);
        Terms {
            prices: Arc::clone(prices),
            max_cost: most.max_cost.unwrap_or(self.0.max_cost),
            max_bytes: most.max_bytes,
            asked,
        }
    }
}

async fn read(published: &Published) -> Result<Vec<Arc<PriceList>>> {
    let lists = published.price_lists().await?;
    lists
        .iter()
        .map(|list| PriceList::read(&list.text).map(Arc::new))
        .collect()
}

/// The prices of one query, and the most that it may cost.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    prices: Arc<PriceList>,
    pub(crate) max_cost: Money,
    /// The most bytes that it may process.
    max_bytes: Option<u64>,
    /// What its caller said of both.
    asked: Defaults,
}

impl Terms {
    /// What it costs with an answer.
    pub(crate) fn cost(&self, counts: Counts) -> Result<Cost> {
        cost(&self.prices, counts).map_err(|TooMuch| Error::Internal(TooMuch.into()))
    }

    /// That it costs nothing, and why.
    pub(crate) fn free(&self, why: Free) -> Cost {
        free(&self.prices, why)
    }

    /// The most bytes that it may process, besides what it loads. None: it costs more than it may without any.
    pub(crate) fn bytes_within(&self, bytes_loaded: u64) -> Option<u64> {
        let within = bytes_within(&self.prices, self.max_cost, bytes_loaded)?;
        Some(within.min(self.max_bytes.unwrap_or(u64::MAX)))
    }

    /// Refuses a query that would process or cost more than it may.
    pub(crate) fn check(&self, counts: Counts) -> Result<()> {
        let bytes = counts.bytes_processed;
        if let Some(most) = self.max_bytes.filter(|most| bytes > *most) {
            let message = match self.asked.max_bytes {
                Some(_) => format!(
                    "the query would process {bytes} bytes, more than the {most} of its `max_bytes`; nothing was read"
                ),
                None => format!(
                    "the query would process {bytes} bytes, more than the {most} that one may process which does not say; nothing \
                     was read; say how many it may process with `max_bytes`"
                ),
            };
            return Err(SqlError::new(Code::OverBudget, message).into());
        }
        let cost = self.cost(counts)?;
        if cost.amount <= self.max_cost {
            return Ok(());
        }
        let (amount, most, currency) = (cost.amount, self.max_cost, &cost.currency);
        let message = match self.asked.max_cost {
            Some(_) => format!(
                "the query would cost {amount} {currency}, more than the {most} of its `max_cost`; nothing was read"
            ),
            None => format!(
                "the query would cost {amount} {currency}, more than the {most} that one may cost which does not say; nothing \
                 was read; say how much it may cost with `max_cost`"
            ),
        };
        Err(SqlError::new(Code::OverBudget, message).into())
    }
}
