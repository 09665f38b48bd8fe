//! SQL for the records of queries.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row, query};

use super::{
    changed, flag_missing_project, json, json_if_any, number, parsed, parsed_if_any, placeholders, timestamp,
    timestamp_if_any, unreadable,
};
use crate::Result;
use crate::audit::{Actor, Who};
use crate::clock::Timestamp;
use crate::ids::{KeyId, ProjectId, QueryId};
use crate::queries::{End, Ended, Filter, QueryRecord, QueryState, WriteIntent};

/// The columns of a record, by name: a gateway that is one release behind must not be surprised by a new one.
macro_rules! select_queries {
    ($statement:literal, $results:literal, $which:literal) => {
        concat!(
            "select id, project, request_id, fingerprint, ",
            $statement,
            " as statement, asker, asker_key, asker_token, asker_address, kind, labels, state, created_at, started_at, ended_at, owner, ",
            "lease_until, cancel_requested_at, attempts, usage, cost, error, target, results_state, ",
            $results,
            " as results from queries where ",
            $which
        )
    };
}

/// Records a query as far as it is. False when the id, or the project's request id, is there already.
pub(crate) async fn insert(conn: &mut AnyConnection, record: &QueryRecord) -> Result<bool> {
    let insert = query(
        "insert into queries (
             id, project, request_id, statement, kind, labels, state, created_at, started_at, owner, lease_until,
             attempts, usage, fingerprint, ended_at, error, results, results_state, profile, cost,
             asker, asker_key, asker_address, asker_token
         ) values (
             $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24
         ) on conflict do nothing",
    )
    .bind(record.id.to_string())
    .bind(record.project.as_str())
    .bind(record.request_id.as_deref())
    .bind(record.sql.as_str())
    .bind(record.kind.as_str())
    .bind(text(&record.labels)?)
    .bind(record.state.as_str())
    .bind(record.created_at.micros())
    .bind(record.started_at.map(Timestamp::micros))
    .bind(record.owner.as_str())
    .bind(record.lease_until.micros())
    .bind(i64::from(record.attempts))
    .bind(text(&record.usage)?)
    .bind(record.fingerprint.as_str())
    .bind(record.ended_at.map(Timestamp::micros))
    .bind(record.error.as_ref().map(text).transpose()?)
    .bind(record.results.as_deref())
    .bind(results_state(record.results.as_deref()))
    .bind(record.profile.as_deref())
    .bind(record.cost.as_ref().map(text).transpose()?)
    .bind(asker(record))
    .bind(asker_key(record))
    .bind(asker_address(record))
    .bind(asker_token(record));
    let inserted = changed(conn, insert)
        .await
        .map_err(|error| flag_missing_project(error, &record.project))?;
    if inserted == 0 {
        return Ok(false);
    }
    for (name, value) in &record.labels {
        let label = query("insert into query_labels (project, name, value, query) values ($1, $2, $3, $4)")
            .bind(record.project.as_str())
            .bind(name.as_str())
            .bind(value.as_str())
            .bind(record.id.to_string());
        changed(conn, label).await?;
    }
    Ok(true)
}

/// False when the query is over or was never recorded; so are the next two.
pub(crate) async fn start(conn: &mut AnyConnection, id: &QueryId, now: Timestamp) -> Result<bool> {
    let start = query(
        "update queries set state = 'running', started_at = coalesce(started_at, $2), attempts = attempts + 1
         where id = $1 and state in ('pending', 'running')",
    )
    .bind(id.to_string())
    .bind(now.micros());
    Ok(changed(conn, start).await? > 0)
}

pub(crate) async fn intend(conn: &mut AnyConnection, id: &QueryId, intent: &WriteIntent) -> Result<bool> {
    // A query that was taken over has no owner, and is over for whoever had it.
    let intend = query(
        "update queries set state = 'committing', target = $2 where id = $1 and ended_at is null and owner <> ''",
    )
    .bind(id.to_string())
    .bind(text(intent)?);
    Ok(changed(conn, intend).await? > 0)
}

/// `None` when the query is over or was never recorded.
pub(crate) async fn end(conn: &mut AnyConnection, id: &QueryId, end: &End, now: Timestamp) -> Result<Option<Ended>> {
    let row = query(
        "update queries set state = $2, ended_at = $3, usage = $4, error = $5, results = $6, results_state = $7,
             profile = $8, cost = $9
         where id = $1 and ended_at is null
         returning project, asker, asker_key, asker_token, asker_address, kind, labels",
    )
    .bind(id.to_string())
    .bind(end.state.as_str())
    .bind(now.micros())
    .bind(text(&end.usage)?)
    .bind(end.error.as_ref().map(text).transpose()?)
    .bind(end.results.as_deref())
    .bind(results_state(end.results.as_deref()))
    .bind(end.profile.as_deref())
    .bind(text(&end.cost)?)
    .fetch_optional(conn)
    .await?;
    let ended = |row: &AnyRow| {
        Ok(Ended {
            project: parsed(row, "project")?,
            by: asked_by(row)?,
            kind: row.try_get("kind")?,
            labels: json(row, "labels")?,
        })
    };
    row.as_ref().map(ended).transpose()
}

pub(crate) async fn state(conn: &mut AnyConnection, id: &QueryId) -> Result<Option<QueryState>> {
    let row = query("select state from queries where id = $1")
        .bind(id.to_string())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(|row| parsed(row, "state")).transpose()
}

pub(crate) async fn renew(conn: &mut AnyConnection, owner: &str, queries: &[QueryId], until: Timestamp) -> Result<u64> {
    let renew = format!(
        "update queries set lease_until = $2 where owner = $1 and ended_at is null and id in ({})",
        placeholders(3, queries.len())
    );
    // The text depends on the number of queries alone.
    let mut renew = query(sqlx::AssertSqlSafe(renew)).bind(owner).bind(until.micros());
    for id in queries {
        renew = renew.bind(id.to_string());
    }
    Ok(changed(conn, renew).await?)
}

/// False when the query has another lease, or is further, than was seen. If not, it has no owner any more.
pub(crate) async fn take_over(conn: &mut AnyConnection, seen: &QueryRecord) -> Result<bool> {
    let take = query(
        "update queries set owner = '' where id = $1 and ended_at is null and owner = $2 and lease_until = $3 and state = $4",
    )
    .bind(seen.id.to_string())
    .bind(seen.owner.as_str())
    .bind(seen.lease_until.micros())
    .bind(seen.state.as_str());
    Ok(changed(conn, take).await? > 0)
}

pub(crate) async fn live(conn: &mut AnyConnection) -> Result<HashSet<QueryId>> {
    let rows = query("select id from queries where ended_at is null")
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

pub(crate) async fn one(conn: &mut AnyConnection, project: &ProjectId, id: &QueryId) -> Result<Option<QueryRecord>> {
    let row = query(select_queries!("statement", "results", "id = $1 and project = $2"))
        .bind(id.to_string())
        .bind(project.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(record_of).transpose()
}

pub(crate) async fn profile(conn: &mut AnyConnection, project: &ProjectId, id: &QueryId) -> Result<Option<String>> {
    let row = query("select profile from queries where id = $1 and project = $2")
        .bind(id.to_string())
        .bind(project.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.try_get("profile")).transpose()?.flatten())
}

pub(crate) async fn of_request(
    conn: &mut AnyConnection,
    project: &ProjectId,
    request_id: &str,
) -> Result<Option<QueryRecord>> {
    let row = query(select_queries!(
        "statement",
        "results",
        "project = $1 and request_id = $2"
    ))
    .bind(project.as_str())
    .bind(request_id)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(record_of).transpose()
}

pub(crate) async fn list(
    conn: &mut AnyConnection,
    project: &ProjectId,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<QueryRecord>> {
    let (label, value) = match &filter.label {
        Some((label, value)) => (Some(label.as_str()), Some(value.as_str())),
        None => (None, None),
    };
    let rows = query(select_queries!(
        "substr(statement, 1, 4000)",
        "cast(null as text)",
        "project = $1
         and ($2 is null or state = $2)
         and ($3 is null or created_at > $3)
         and ($4 is null or id < $4)
         and ($5 is null or id in (
             select query from query_labels where project = $1 and name = $5 and value = $6
         ))
         and ($7 is null or kind = $7)
         and ($8 is null or asker = $8)
         and ($9 is null or asker_key = $9)
         and ($10 is null or asker_token = $10)
         order by id desc limit $11"
    ))
    .bind(project.as_str())
    .bind(filter.state.map(|state| state.as_str()))
    .bind(filter.created_after.map(Timestamp::micros))
    .bind(filter.before.as_ref().map(QueryId::to_string))
    .bind(label)
    .bind(value)
    .bind(filter.kind.as_deref())
    .bind(filter.asked_by.as_ref().map(Who::to_string))
    .bind(filter.with_key.as_ref().map(KeyId::to_string))
    .bind(filter.with_token.as_deref())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(record_of).collect()
}

/// False when the query is over, or not the project's.
pub(crate) async fn request_cancel(
    conn: &mut AnyConnection,
    project: &ProjectId,
    id: &QueryId,
    now: Timestamp,
) -> Result<bool> {
    let request = query(
        "update queries set cancel_requested_at = coalesce(cancel_requested_at, $3)
         where id = $1 and project = $2 and ended_at is null",
    )
    .bind(id.to_string())
    .bind(project.as_str())
    .bind(now.micros());
    Ok(changed(conn, request).await? > 0)
}

pub(crate) async fn cancel_requests(conn: &mut AnyConnection, owner: &str) -> Result<Vec<QueryId>> {
    let rows = query(
        "select id from queries where owner = $1 and ended_at is null and cancel_requested_at is not null order by id",
    )
    .bind(owner)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

pub(crate) async fn lost(conn: &mut AnyConnection, now: Timestamp) -> Result<Vec<QueryRecord>> {
    let rows = query(select_queries!(
        "statement",
        "results",
        "ended_at is null and lease_until < $1 order by id"
    ))
    .bind(now.micros())
    .fetch_all(conn)
    .await?;
    rows.iter().map(record_of).collect()
}

pub(crate) async fn expire_results(
    conn: &mut AnyConnection,
    before: Timestamp,
    at_most: u32,
) -> Result<Vec<(ProjectId, QueryId)>> {
    let expire = query(
        "update queries set results = null, results_state = 'expired' where id in (
             select id from queries where results_state = 'kept' and ended_at < $1 order by ended_at limit $2
         )",
    )
    .bind(before.micros())
    .bind(i64::from(at_most));
    changed(conn, expire).await?;
    // A query that failed has a profile and no results.
    let forget =
        query("update queries set profile = null where profile is not null and ended_at < $1").bind(before.micros());
    changed(conn, forget).await?;

    let rows = query("select project, id from queries where results_state = 'expired' order by ended_at limit $1")
        .bind(i64::from(at_most))
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| Ok((parsed(row, "project")?, parsed(row, "id")?)))
        .collect()
}

pub(crate) async fn results_removed(conn: &mut AnyConnection, id: &QueryId) -> Result<()> {
    let removed = query("update queries set results_state = 'removed' where id = $1 and results_state = 'expired'")
        .bind(id.to_string());
    changed(conn, removed).await?;
    Ok(())
}

fn record_of(row: &AnyRow) -> Result<QueryRecord> {
    let cancel_requested = timestamp_if_any(row, "cancel_requested_at")?.is_some();
    let results_expired = matches!(row.try_get("results_state")?, "expired" | "removed");
    Ok(QueryRecord {
        id: parsed(row, "id")?,
        project: parsed(row, "project")?,
        asked_by: asked_by(row)?,
        request_id: row.try_get("request_id")?,
        fingerprint: row.try_get("fingerprint")?,
        sql: row.try_get("statement")?,
        kind: row.try_get("kind")?,
        labels: json::<BTreeMap<String, String>>(row, "labels")?,
        state: parsed(row, "state")?,
        created_at: timestamp(row, "created_at")?,
        started_at: timestamp_if_any(row, "started_at")?,
        ended_at: timestamp_if_any(row, "ended_at")?,
        owner: row.try_get("owner")?,
        lease_until: timestamp(row, "lease_until")?,
        cancel_requested,
        attempts: number(row, "attempts")?,
        usage: json(row, "usage")?,
        cost: json_if_any(row, "cost")?,
        error: json_if_any(row, "error")?,
        results: row.try_get("results")?,
        results_expired,
        profile: None,
        target: json_if_any(row, "target")?,
    })
}

fn asked_by(row: &AnyRow) -> Result<Option<Actor>> {
    let Some(who) = parsed_if_any(row, "asker")? else {
        return Ok(None);
    };
    Ok(Some(Actor {
        who,
        key: parsed_if_any(row, "asker_key")?,
        token: row.try_get("asker_token")?,
        address: parsed_if_any(row, "asker_address")?,
    }))
}

pub(super) fn asker(record: &QueryRecord) -> Option<String> {
    record.asked_by.as_ref().map(|actor| actor.who.to_string())
}

pub(super) fn asker_key(record: &QueryRecord) -> Option<String> {
    Some(record.asked_by.as_ref()?.key.as_ref()?.to_string())
}

pub(super) fn asker_token(record: &QueryRecord) -> Option<&str> {
    record.asked_by.as_ref()?.token.as_deref()
}

pub(super) fn asker_address(record: &QueryRecord) -> Option<String> {
    Some(record.asked_by.as_ref()?.address?.to_string())
}

/// The word for results that may be there and have not expired.
pub(super) fn results_state(results: Option<&str>) -> &'static str {
    if results.is_some() { "kept" } else { "none" }
}

pub(super) fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(unreadable)
}
