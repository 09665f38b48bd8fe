//! SQL for the ledger and its heads.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row, query};

use super::{changed, hex, parsed, unreadable};
use crate::Result;
use crate::ids::{ProjectId, QueryId};
use crate::ledger::{GENESIS, Head, SignedReceipt, StoredLine};

/// The columns of a line, by name.
macro_rules! select_lines {
    ($which:literal) => {
        concat!(
            "select project, seq, query, entry, prev_hash, hash, receipt, signature, signed_by from ledger where ",
            $which
        )
    };
}

/// A project's chain before its first line.
pub(crate) async fn insert_head(conn: &mut AnyConnection, project: &ProjectId) -> Result<()> {
    let insert = query("insert into ledger_head (project, seq, hash) values ($1, 0, $2)")
        .bind(project.as_str())
        .bind(hex(&GENESIS));
    changed(conn, insert).await?;
    Ok(())
}

/// Locks a project's chain and says the number of its next line, and the hash of the last.
pub(crate) async fn advance_head(conn: &mut AnyConnection, project: &ProjectId) -> Result<Head> {
    let row = query("update ledger_head set seq = seq + 1 where project = $1 returning seq, hash")
        .bind(project.as_str())
        .fetch_one(conn)
        .await?;
    head_of(&row)
}

pub(crate) async fn set_head_hash(conn: &mut AnyConnection, project: &ProjectId, hash: &[u8; 32]) -> Result<()> {
    let update = query("update ledger_head set hash = $2 where project = $1")
        .bind(project.as_str())
        .bind(hex(hash));
    changed(conn, update).await?;
    Ok(())
}

pub(crate) async fn head(conn: &mut AnyConnection, project: &ProjectId) -> Result<Option<Head>> {
    let row = query("select seq, hash from ledger_head where project = $1")
        .bind(project.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(head_of).transpose()
}

pub(crate) async fn insert(conn: &mut AnyConnection, line: &StoredLine) -> Result<()> {
    let receipt = line.receipt.as_ref();
    let insert = query(
        "insert into ledger (project, seq, query, entry, prev_hash, hash, receipt, signature, signed_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(line.project.as_str())
    .bind(line.seq)
    .bind(line.query.to_string())
    .bind(line.entry.as_str())
    .bind(hex(&line.prev_hash))
    .bind(hex(&line.hash))
    .bind(receipt.map(|receipt| receipt.text.as_str()))
    .bind(receipt.map(|receipt| receipt.signature.as_str()))
    .bind(receipt.map(|receipt| receipt.key.as_str()));
    changed(conn, insert).await?;
    Ok(())
}

pub(crate) async fn after(
    conn: &mut AnyConnection,
    project: &ProjectId,
    after_seq: i64,
    limit: u32,
) -> Result<Vec<StoredLine>> {
    let rows = query(select_lines!("project = $1 and seq > $2 order by seq limit $3"))
        .bind(project.as_str())
        .bind(after_seq)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(line_of).collect()
}

pub(crate) async fn of_query(
    conn: &mut AnyConnection,
    project: &ProjectId,
    id: &QueryId,
) -> Result<Option<StoredLine>> {
    let row = query(select_lines!("project = $1 and query = $2"))
        .bind(project.as_str())
        .bind(id.to_string())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(line_of).transpose()
}

fn head_of(row: &AnyRow) -> Result<Head> {
    Ok(Head {
        seq: row.try_get("seq")?,
        hash: hash(row, "hash")?,
    })
}

fn line_of(row: &AnyRow) -> Result<StoredLine> {
    Ok(StoredLine {
        project: parsed(row, "project")?,
        seq: row.try_get("seq")?,
        query: parsed(row, "query")?,
        entry: row.try_get("entry")?,
        prev_hash: hash(row, "prev_hash")?,
        hash: hash(row, "hash")?,
        receipt: receipt_of(row)?,
    })
}

fn receipt_of(row: &AnyRow) -> Result<Option<SignedReceipt>> {
    let Some(text) = row.try_get("receipt")? else {
        return Ok(None);
    };
    Ok(Some(SignedReceipt {
        text,
        signature: row.try_get("signature")?,
        key: row.try_get("signed_by")?,
    }))
}

fn hash(row: &AnyRow, column: &str) -> Result<[u8; 32]> {
    let hash = blake3::Hash::from_hex(row.try_get::<&str, _>(column)?).map_err(unreadable)?;
    Ok(*hash.as_bytes())
}
