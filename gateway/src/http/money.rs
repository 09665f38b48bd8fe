//! Money, as resources tell it, and the prices of the house.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use wasmhouse_storage::money::{Cost, Item, What};

use super::error::ApiError;
use crate::billing::Billing;
use crate::billing::price::{PriceList, reason};

/// What a query costs. An amount is a decimal text, exact to the last of its digits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CostBody {
    /// The sum of the items; `0` if it is free.
    #[schema(example = "0.00115")]
    amount: String,
    /// In the letters of ISO 4217.
    #[schema(example = "USD")]
    currency: String,
    /// The version of the price list; see `GET /v1/prices`.
    prices: String,
    /// What it is made of. What costs nothing is left out.
    items: Vec<CostItem>,
    /// Why nothing is to be paid, whatever was used: `failed`, `cancelled`, `abandoned` or `lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<&'static str>,
}

/// One of the things that are paid for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CostItem {
    /// `bytes_processed`, `bytes_loaded` or `minimum`.
    what: &'static str,
    count: u64,
    amount: String,
}

/// Every price list, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PricesBody {
    prices: Vec<PricesItem>,
}

/// What everything costs from a moment on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PricesItem {
    /// What costs and receipts call it.
    version: String,
    /// Queries that are accepted from then on have it, until the next one is in force.
    from: String,
    currency: String,
    /// For 10^12 bytes that queries process.
    per_tb_processed: String,
    /// For 10^12 bytes of files that are loaded, unpacked.
    per_tb_loaded: String,
    /// The least that a query with an answer costs.
    per_query_at_least: String,
}

impl From<&Cost> for CostBody {
    fn from(cost: &Cost) -> Self {
        let Cost {
            amount,
            currency,
            prices,
            items,
            free,
        } = cost;
        Self {
            amount: amount.to_string(),
            currency: currency.clone(),
            prices: prices.clone(),
            items: items.iter().map(item).collect(),
            free: free.map(reason),
        }
    }
}

fn item(item: &Item) -> CostItem {
    CostItem {
        what: match item.what {
            What::BytesProcessed => "bytes_processed",
            What::BytesLoaded => "bytes_loaded",
            What::Minimum => "minimum",
        },
        count: item.count,
        amount: item.amount.to_string(),
    }
}

/// Read the prices, of the past and of the future too. Everybody may.
#[utoipa::path(
    get, path = "/v1/prices", tag = "money", security(()),
    responses((status = 200, body = PricesBody))
)]
pub(super) async fn list_prices(State(billing): State<Billing>) -> Result<Json<PricesBody>, ApiError> {
    let prices = billing.published().await?;
    Ok(Json(PricesBody {
        prices: prices.iter().map(|list| prices_item(list)).collect(),
    }))
}

/// The keys of receipts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeysBody {
    keys: Vec<KeyItem>,
}

/// The public half of a key that receipts were signed with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyItem {
    /// What receipts call it.
    id: String,
    /// Ed25519, in hexadecimal.
    public_key: String,
}

/// Read the keys that receipts were ever signed with. Everybody may.
#[utoipa::path(
    get, path = "/v1/signing-keys", tag = "money", security(()),
    responses((status = 200, body = KeysBody))
)]
pub(super) async fn list_keys(State(billing): State<Billing>) -> Result<Json<KeysBody>, ApiError> {
    let keys = billing.keys().await?.into_iter();
    Ok(Json(KeysBody {
        keys: keys
            .map(|key| KeyItem {
                id: key.id,
                public_key: key.public_key,
            })
            .collect(),
    }))
}

fn prices_item(list: &PriceList) -> PricesItem {
    PricesItem {
        version: list.version.clone(),
        from: list.from.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        currency: list.currency.clone(),
        per_tb_processed: list.per_tb_processed.to_string(),
        per_tb_loaded: list.per_tb_loaded.to_string(),
        per_query_at_least: list.per_query_at_least.to_string(),
    }
}
