//! Usage becomes money: pure, and the only place where it does. A quote, a ceiling, a bill and whoever checks one ask here.

use std::borrow::Borrow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::money::{Cost, Free, Item, Money, What};
use wasmhouse_storage::queries::{QueryState, Usage};

use crate::error::{Error, Result};

/// Bytes of a terabyte, as prices are told.
const TERABYTE: u128 = 1_000_000_000_000;

/// Decimals that the price of 10^12 of something may have, so that one of it costs a whole number of attos.
pub(crate) const DECIMALS_OF_PRICES: usize = 6;

/// The most that it may be, so that no query costs more than can be counted.
pub(crate) const PRICE_MAX: Money = Money::of_units(1_000_000_000);

/// What everything costs from a moment on. It is configuration, and never changes once it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceList {
    /// What lines and receipts call it.
    pub(crate) version: String,
    /// When it comes into force: queries that are accepted from then on have it.
    pub(crate) from: DateTime<Utc>,
    /// The currency, in the letters of ISO 4217.
    pub(crate) currency: String,
    /// For 10^12 bytes that queries process.
    pub(crate) per_tb_processed: Money,
    /// For 10^12 bytes of files that are loaded.
    pub(crate) per_tb_loaded: Money,
    /// The least that a query with an answer costs.
    pub(crate) per_query_at_least: Money,
}

/// What a query is paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Logical bytes of the referenced columns in the files that survive pruning.
    pub(crate) bytes_processed: u64,
    /// Bytes of a file that is loaded, unpacked.
    pub(crate) bytes_loaded: u64,
}

impl From<&Usage> for Counts {
    fn from(usage: &Usage) -> Self {
        Self {
            bytes_processed: usage.bytes_processed,
            bytes_loaded: usage.bytes_loaded,
        }
    }
}

/// A cost that cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cost is more than can be counted")]
pub(crate) struct TooMuch;

impl PriceList {
    /// As it is published: JSON, with its fields in one order.
    pub(crate) fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.into()))
    }

    /// A list that was published.
    pub(crate) fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::Internal(error.into()))
    }

    /// Whether it is in force at this moment, if none that is newer is.
    fn is_in_force(&self, at: Timestamp) -> bool {
        self.from.timestamp_micros() <= at.micros()
    }

    fn per_byte_processed(&self) -> Money {
        one_of_a_terabyte(self.per_tb_processed)
    }

    fn per_byte_loaded(&self) -> Money {
        one_of_a_terabyte(self.per_tb_loaded)
    }
}

fn one_of_a_terabyte(price: Money) -> Money {
    Money::of_attos(price.attos() / TERABYTE)
}

/// What a query with an answer costs that has these counts.
pub(crate) fn cost(prices: &PriceList, counts: Counts) -> Result<Cost, TooMuch> {
    let item = |what, count, price: Money| {
        let amount = price.times(count).ok_or(TooMuch)?;
        Ok(Item { what, count, amount })
    };
    let mut items = vec![
        item(
            What::BytesProcessed,
            counts.bytes_processed,
            prices.per_byte_processed(),
        )?,
        item(What::BytesLoaded, counts.bytes_loaded, prices.per_byte_loaded())?,
    ];
    let counted = sum(&items)?;
    items.push(item(What::Minimum, 1, prices.per_query_at_least.less(counted))?);
    items.retain(|item| item.amount > Money::ZERO);
    Ok(Cost {
        amount: sum(&items)?,
        currency: prices.currency.clone(),
        prices: prices.version.clone(),
        items,
        free: None,
    })
}

fn sum(items: &[Item]) -> Result<Money, TooMuch> {
    let mut all = Money::ZERO;
    for item in items {
        all = all.plus(item.amount).ok_or(TooMuch)?;
    }
    Ok(all)
}

/// The list that is in force at this moment; before any is, the first. `lists` has the newest first.
pub(crate) fn in_force<T: Borrow<PriceList>>(lists: &[T], at: Timestamp) -> Option<&T> {
    let is_in_force = |list: &&T| Borrow::<PriceList>::borrow(*list).is_in_force(at);
    lists.iter().find(is_in_force).or(lists.last())
}

/// That a query costs nothing, and why.
pub(crate) fn free(prices: &PriceList, why: Free) -> Cost {
    Cost {
        amount: Money::ZERO,
        currency: prices.currency.clone(),
        prices: prices.version.clone(),
        items: Vec::new(),
        free: Some(why),
    }
}

/// Why a query that ended so costs nothing. None: it is paid for.
pub(crate) fn why_free(outcome: QueryState) -> Option<Free> {
    match outcome {
        QueryState::Done => None,
        QueryState::Cancelled => Some(Free::Cancelled),
        QueryState::Abandoned => Some(Free::Abandoned),
        QueryState::Lost => Some(Free::Lost),
        QueryState::Failed | QueryState::Pending | QueryState::Running | QueryState::Committing => Some(Free::Failed),
    }
}

/// The most bytes that a query may process, besides what it loads, so that it costs no more than `most`. None: it costs more
/// without any.
pub(crate) fn bytes_within(prices: &PriceList, most: Money, bytes_loaded: u64) -> Option<u64> {
    let without = cost(
        prices,
        Counts {
            bytes_processed: 0,
            bytes_loaded,
        },
    );
    if without.ok()?.amount > most {
        return None;
    }
    let loaded = prices.per_byte_loaded().times(bytes_loaded)?;
    let bytes = most
        .less(loaded)
        .attos()
        .checked_div(prices.per_byte_processed().attos());
    Some(bytes.map_or(u64::MAX, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX)))
}

/// The word for why nothing is to be paid.
pub(crate) fn reason(free: Free) -> &'static str {
    match free {
        Free::Failed => "failed",
        Free::Cancelled => "cancelled",
        Free::Abandoned => "abandoned",
        Free::Lost => "lost",
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn prices(processed: &str, loaded: &str, least: &str) -> PriceList {
        let money = |text: &str| text.parse().expect(text);
        PriceList {
            version: "test".to_owned(),
            from: DateTime::default(),
            currency: "USD".to_owned(),
            per_tb_processed: money(processed),
            per_tb_loaded: money(loaded),
            per_query_at_least: money(least),
        }
    }

    fn counts(bytes_processed: u64, bytes_loaded: u64) -> Counts {
        Counts {
            bytes_processed,
            bytes_loaded,
        }
    }

    fn amount(prices: &PriceList, counts: Counts) -> String {
        cost(prices, counts).expect("little").amount.to_string()
    }

    #[test]
    fn every_byte_has_its_price_and_no_byte_another() {
        let list = prices("5", "0.000001", "0");
        assert_eq!(amount(&list, counts(0, 0)), "0");
        assert_eq!(amount(&list, counts(1, 0)), "0.000000000005");
        assert_eq!(amount(&list, counts(1_000_000_000_000, 0)), "5");
        assert_eq!(amount(&list, counts(230 << 20, 0)), "0.0012058624");
        assert_eq!(amount(&list, counts(0, 1)), "0.000000000000000001");
        assert_eq!(amount(&list, counts(u64::MAX, u64::MAX)), "92233738.815291831784551615");

        let two_halves = cost(&list, counts(12_345, 0)).expect("little").amount;
        let halves: Money = [6_000, 6_345]
            .map(|bytes| cost(&list, counts(bytes, 0)).expect("little").amount)
            .into_iter()
            .sum();
        assert_eq!(halves, two_halves, "cutting a query in two changes nothing");
    }

    #[test]
    fn the_least_that_a_query_costs_is_an_item_that_can_be_seen() {
        let list = prices("5", "0", "0.001");
        let small = cost(&list, counts(1_000, 0)).expect("little");
        assert_eq!(small.amount.to_string(), "0.001");
        let items: Vec<_> = small
            .items
            .iter()
            .map(|item| (item.what, item.count, item.amount.to_string()))
            .collect();
        assert_eq!(
            items,
            [
                (What::BytesProcessed, 1_000, "0.000000005".to_owned()),
                (What::Minimum, 1, "0.000999995".to_owned())
            ]
        );
        let large = cost(&list, counts(1 << 40, 0)).expect("little");
        assert!(large.items.iter().all(|item| item.what != What::Minimum), "{large:?}");
    }

    #[test]
    fn what_a_ceiling_lets_through_costs_no_more_and_one_byte_more_does() {
        let mut chance = StdRng::seed_from_u64(8841);
        for _ in 0..20_000 {
            let text = |chance: &mut StdRng, most: u64| {
                Money::of_attos(u128::from(chance.random_range(0..most)) * 10_u128.pow(12)).to_string()
            };
            let list = prices(
                &text(&mut chance, 20_000_000),
                &text(&mut chance, 2_000_000),
                &text(&mut chance, 3_000),
            );
            let loaded = chance.random_range(0..1 << 40);
            let most = Money::of_attos(chance.random_range(0..10_u128.pow(20)));
            let cost_of = |bytes| cost(&list, counts(bytes, loaded)).expect("little").amount;
            match bytes_within(&list, most, loaded) {
                None => assert!(cost_of(0) > most, "{list:?} {most} {loaded}"),
                Some(u64::MAX) => assert!(cost_of(u64::MAX) <= most, "{list:?} {most} {loaded}"),
                Some(bytes) => {
                    assert!(cost_of(bytes) <= most, "{list:?} {most} {loaded}");
                    assert!(cost_of(bytes + 1) > most, "{list:?} {most} {loaded}");
                }
            }
        }
    }

    #[test]
    fn a_cost_that_cannot_be_counted_is_none() {
        let most = PRICE_MAX.to_string();
        let list = prices(&most, &most, &most);
        assert!(
            cost(&list, counts(u64::MAX, u64::MAX)).is_ok(),
            "no list that is allowed costs so much"
        );
        let list = prices("999999999999999", "0", "0");
        assert_eq!(cost(&list, counts(u64::MAX, 0)), Err(TooMuch));
        let list = prices("0", "0", "0");
        assert_eq!(
            bytes_within(&list, Money::ZERO, u64::MAX),
            Some(u64::MAX),
            "what costs nothing has no end"
        );
    }
}
