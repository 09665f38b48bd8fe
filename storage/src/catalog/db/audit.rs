//! SQL for the audit log.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row, query};

use super::{changed, flag_missing_project, parsed, parsed_if_any, timestamp};
use crate::Result;
use crate::audit::{Actor, AuditLine, Deed};
use crate::clock::Timestamp;
use crate::ids::{AuditId, ProjectId};

pub(crate) async fn insert(conn: &mut AnyConnection, project: &ProjectId, deed: &Deed, now: Timestamp) -> Result<()> {
    let insert = query(
        "insert into audit (id, project, at, who, with_key, with_token, address, act, object, allowed, query)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(AuditId::new(now).to_string())
    .bind(project.as_str())
    .bind(now.micros())
    .bind(deed.by.who.to_string())
    .bind(deed.by.key.as_ref().map(ToString::to_string))
    .bind(deed.by.token.as_deref())
    .bind(deed.by.address.map(|address| address.to_string()))
    .bind(deed.act.as_str())
    .bind(deed.object.as_str())
    .bind(i64::from(deed.is_allowed))
    .bind(deed.query.as_ref().map(ToString::to_string));
    changed(conn, insert)
        .await
        .map_err(|error| flag_missing_project(error, project))?;
    Ok(())
}

pub(crate) async fn lines(
    conn: &mut AnyConnection,
    project: &ProjectId,
    before: Option<&AuditId>,
    limit: u32,
) -> Result<Vec<AuditLine>> {
    let rows = query(
        "select id, at, who, with_key, with_token, address, act, object, allowed, query from audit
         where project = $1 and ($2 is null or id < $2) order by id desc limit $3",
    )
    .bind(project.as_str())
    .bind(before.map(ToString::to_string))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(line_of).collect()
}

fn line_of(row: &AnyRow) -> Result<AuditLine> {
    Ok(AuditLine {
        id: parsed(row, "id")?,
        at: timestamp(row, "at")?,
        deed: Deed {
            by: Actor {
                who: parsed(row, "who")?,
                key: parsed_if_any(row, "with_key")?,
                token: row.try_get("with_token")?,
                address: parsed_if_any(row, "address")?,
            },
            act: row.try_get("act")?,
            object: row.try_get("object")?,
            is_allowed: row.try_get::<i64, _>("allowed")? != 0,
            query: parsed_if_any(row, "query")?,
        },
    })
}
