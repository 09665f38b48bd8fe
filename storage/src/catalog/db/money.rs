//! SQL for price lists and the keys of receipts.

use sqlx::{AnyConnection, Row, query};

use super::{changed, timestamp};
use crate::Result;
use crate::clock::Timestamp;
use crate::published::Prices;

/// False when its version was published meanwhile.
pub(crate) async fn publish_prices(conn: &mut AnyConnection, list: &Prices) -> Result<bool> {
    let insert =
        query("insert into price_lists (version, valid_from, entry) values ($1, $2, $3) on conflict do nothing")
            .bind(list.version.as_str())
            .bind(list.valid_from.micros())
            .bind(list.text.as_str());
    Ok(changed(conn, insert).await? > 0)
}

/// All lists, the newest first.
pub(crate) async fn prices(conn: &mut AnyConnection) -> Result<Vec<Prices>> {
    let rows = query("select version, valid_from, entry from price_lists order by valid_from desc")
        .fetch_all(conn)
        .await?;
    let prices = rows.iter().map(|row| {
        Ok(Prices {
            version: row.try_get("version")?,
            valid_from: timestamp(row, "valid_from")?,
            text: row.try_get("entry")?,
        })
    });
    prices.collect()
}

pub(crate) async fn publish_key(conn: &mut AnyConnection, id: &str, public_key: &str, now: Timestamp) -> Result<()> {
    let insert =
        query("insert into signing_keys (id, public_key, created_at) values ($1, $2, $3) on conflict do nothing")
            .bind(id)
            .bind(public_key)
            .bind(now.micros());
    changed(conn, insert).await?;
    Ok(())
}

/// Every key, as its id and its public half.
pub(crate) async fn signing_keys(conn: &mut AnyConnection) -> Result<Vec<(String, String)>> {
    let rows = query("select id, public_key from signing_keys order by created_at, id")
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("id")?, row.try_get("public_key")?)))
        .collect()
}
