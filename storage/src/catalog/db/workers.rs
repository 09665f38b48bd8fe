//! SQL for the workers that offer themselves to every gateway.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row, query};

use super::{changed, number, parsed, parsed_if_any, placeholders, timestamp, timestamp_if_any};
use crate::Result;
use crate::clock::Timestamp;
use crate::ids::{ProjectId, WorkerId};
use crate::workers::{Counts, Ending, Leased, Offer, Standing, Wanted};

pub(crate) async fn insert(
    conn: &mut AnyConnection,
    offer: &Offer,
    now: Timestamp,
    alive_until: Timestamp,
) -> Result<()> {
    let insert = query(
        "insert into workers (id, url, token, build, state, alive_until, free_since)
         values ($1, $2, $3, $4, 'ready', $5, $6)
         on conflict (id) do nothing",
    )
    .bind(offer.id.to_string())
    .bind(offer.url.as_str())
    .bind(offer.token.as_str())
    .bind(offer.build.as_str())
    .bind(alive_until.micros())
    .bind(now.micros());
    changed(conn, insert).await?;
    Ok(())
}

/// There is one process at an address: whoever was there before has ended, and unless somebody said how, nobody knows.
pub(crate) async fn end_others(conn: &mut AnyConnection, offer: &Offer) -> Result<()> {
    let end = query(
        "update workers set state = 'ended', ending = coalesce(ending, 'lost'), owner = null, leased_until = null
         where (url = $1 or id = $3) and id <> $2 and state <> 'ended'",
    )
    .bind(offer.url.as_str())
    .bind(offer.id.to_string())
    .bind(offer.replaces.as_ref().map(WorkerId::to_string));
    changed(conn, end).await?;
    Ok(())
}

/// `None` when the worker is not registered, or has ended.
pub(crate) async fn renew(conn: &mut AnyConnection, id: &WorkerId, alive_until: Timestamp) -> Result<Option<Standing>> {
    let row = query(
        "update workers set alive_until = $2 where id = $1 and state <> 'ended' and ending is null
         returning state, project, owner, leased_until, free_since",
    )
    .bind(id.to_string())
    .bind(alive_until.micros())
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(standing_of).transpose()
}

/// Says that nobody is to have it any more. A worker that is spent stays spent.
pub(crate) async fn drain(conn: &mut AnyConnection, id: &WorkerId) -> Result<()> {
    let drain = query("update workers set state = 'draining' where id = $1 and state = 'ready'").bind(id.to_string());
    changed(conn, drain).await?;
    Ok(())
}

/// False when somebody has it.
pub(crate) async fn retire(conn: &mut AnyConnection, id: &WorkerId) -> Result<bool> {
    let retire = query("update workers set state = 'spent' where id = $1 and state = 'ready' and owner is null")
        .bind(id.to_string());
    Ok(changed(conn, retire).await? > 0)
}

pub(crate) async fn end(conn: &mut AnyConnection, id: &WorkerId, how: Ending) -> Result<()> {
    let end = query(
        "update workers set ending = $2, owner = null, leased_until = null,
             state = case when state = 'spent' then state else 'ended' end
         where id = $1 and ending is null",
    )
    .bind(id.to_string())
    .bind(how.as_str());
    changed(conn, end).await?;
    Ok(())
}

pub(crate) async fn ending(conn: &mut AnyConnection, id: &WorkerId) -> Result<Option<Ending>> {
    let row = query("select ending from workers where id = $1")
        .bind(id.to_string())
        .fetch_optional(conn)
        .await?;
    match row {
        Some(row) => parsed_if_any(&row, "ending"),
        // Rows are removed long after their workers.
        None => Ok(Some(Ending::Lost)),
    }
}

/// Takes free workers, at most as many as are wanted: the project's own first, the one that was busy last, so that others become
/// idle for long; then of nobody's the one that has been there longest.
pub(crate) async fn lease(conn: &mut AnyConnection, wanted: &Wanted<'_>, now: Timestamp) -> Result<Vec<Leased>> {
    // What is asked again outside is what somebody else may have changed meanwhile.
    let rows = query(
        "update workers set owner = $1, project = $2, leased_until = $3
         where owner is null and state = 'ready' and (project is null or project = $2) and id in (
             select id from workers
             where owner is null and state = 'ready' and build = $4 and alive_until > $5
               and (project is null or project = $2)
             order by case when project is null then 1 else 0 end,
                      case when project is null then free_since else -free_since end, id
             limit $6
         )
         returning id, url, token",
    )
    .bind(wanted.owner)
    .bind(wanted.project.as_str())
    .bind(wanted.until.micros())
    .bind(wanted.build)
    .bind(now.micros())
    .bind(i64::try_from(wanted.count).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    rows.iter().map(leased_of).collect()
}

/// How many nobody has, whoever's they were last.
pub(crate) async fn free(conn: &mut AnyConnection, build: &str, now: Timestamp) -> Result<u64> {
    let row = query(
        "select count(*) as free from workers
         where owner is null and state = 'ready' and build = $1 and alive_until > $2",
    )
    .bind(build)
    .bind(now.micros())
    .fetch_one(conn)
    .await?;
    number(&row, "free")
}

/// Spends workers that are idle for other projects, the longest idle first, so that new ones take their places.
pub(crate) async fn spend_idle(conn: &mut AnyConnection, wanted: &Wanted<'_>, now: Timestamp) -> Result<u64> {
    let spend = query(
        "update workers set state = 'spent'
         where owner is null and state = 'ready' and project <> $3 and id in (
             select id from workers
             where owner is null and state = 'ready' and build = $1 and alive_until > $2
               and project is not null and project <> $3
             order by free_since, id
             limit $4
         )",
    )
    .bind(wanted.build)
    .bind(now.micros())
    .bind(wanted.project.as_str())
    .bind(i64::try_from(wanted.count).unwrap_or(i64::MAX));
    Ok(changed(conn, spend).await?)
}

/// How many could be leased by this project now, and how many are about to be started again.
pub(crate) async fn coming(conn: &mut AnyConnection, wanted: &Wanted<'_>, now: Timestamp) -> Result<u64> {
    let row = query(
        "select count(*) as workers from workers
         where build = $1 and alive_until > $2 and (
             (state = 'ready' and owner is null and (project is null or project = $3)) or state = 'spent'
         )",
    )
    .bind(wanted.build)
    .bind(now.micros())
    .bind(wanted.project.as_str())
    .fetch_one(conn)
    .await?;
    number(&row, "workers")
}

pub(crate) async fn renew_leases(
    conn: &mut AnyConnection,
    owner: &str,
    workers: &[WorkerId],
    until: Timestamp,
) -> Result<u64> {
    let renew = format!(
        "update workers set leased_until = $2 where owner = $1 and state <> 'ended' and id in ({})",
        placeholders(3, workers.len())
    );
    // The text depends on the number of workers alone.
    let mut renew = query(sqlx::AssertSqlSafe(renew)).bind(owner).bind(until.micros());
    for id in workers {
        renew = renew.bind(id.to_string());
    }
    Ok(changed(conn, renew).await?)
}

/// Ends a lease. The worker is the project's still; one that is not to be used again is spent.
pub(crate) async fn release(
    conn: &mut AnyConnection,
    id: &WorkerId,
    owner: &str,
    is_good: bool,
    now: Timestamp,
) -> Result<()> {
    let release = query(
        "update workers set owner = null, leased_until = null, free_since = $3,
             state = case when $4 = 1 then state else 'spent' end
         where id = $1 and owner = $2 and state <> 'ended'",
    )
    .bind(id.to_string())
    .bind(owner)
    .bind(now.micros())
    .bind(i64::from(is_good));
    changed(conn, release).await?;
    Ok(())
}

/// Gives up every lease of a gateway: it stops, and nothing is known of what is left.
pub(crate) async fn spend_all(conn: &mut AnyConnection, owner: &str, now: Timestamp) -> Result<u64> {
    let spend = query(
        "update workers set owner = null, leased_until = null, free_since = $2, state = 'spent'
         where owner = $1 and state <> 'ended'",
    )
    .bind(owner)
    .bind(now.micros());
    Ok(changed(conn, spend).await?)
}

/// How many workers a gateway's queries wait for.
pub(crate) async fn demand(
    conn: &mut AnyConnection,
    owner: &str,
    build: &str,
    count: u64,
    until: Timestamp,
) -> Result<()> {
    let demand = query(
        "insert into worker_demands (owner, wanted, until, build) values ($1, $2, $3, $4)
         on conflict (owner) do update set wanted = excluded.wanted, until = excluded.until, build = excluded.build",
    )
    .bind(owner)
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .bind(until.micros())
    .bind(build);
    changed(conn, demand).await?;
    Ok(())
}

/// How many workers there are and are waited for, of each build. Those that were free before `free_after` do not count, nor do
/// those that were told to go.
pub(crate) async fn counts(conn: &mut AnyConnection, now: Timestamp, free_after: Timestamp) -> Result<Vec<Counts>> {
    let rows = query(
        "select build, cast(sum(leased) as bigint) as leased, cast(sum(kept) as bigint) as kept,
             cast(sum(anybodys) as bigint) as anybodys, cast(sum(missing) as bigint) as missing
         from (
             select build,
                 case when owner is not null and state <> 'draining' then 1 else 0 end as leased,
                 case when owner is null and free_since > $2 and state = 'ready' and project is not null
                     then 1 else 0 end as kept,
                 case when owner is null and free_since > $2 and (state = 'spent' or (state = 'ready' and project is null))
                     then 1 else 0 end as anybodys,
                 0 as missing
             from workers where alive_until > $1 and state <> 'ended'
             union all
             select build, 0, 0, 0, wanted from worker_demands where until > $1
         ) as counted
         group by build",
    )
    .bind(now.micros())
    .bind(free_after.micros())
    .fetch_all(conn)
    .await?;
    let counts = rows.iter().map(|row| {
        Ok(Counts {
            leased: number(row, "leased")?,
            kept: number(row, "kept")?,
            anybodys: number(row, "anybodys")?,
            missing: number(row, "missing")?,
        })
    });
    counts.collect()
}

pub(crate) async fn forget_demands(conn: &mut AnyConnection, now: Timestamp) -> Result<()> {
    let forget = query("delete from worker_demands where until < $1").bind(now.micros());
    changed(conn, forget).await?;
    Ok(())
}

pub(crate) async fn forget(conn: &mut AnyConnection, silent_since: Timestamp) -> Result<u64> {
    let forget = query("delete from workers where alive_until < $1 and owner is null").bind(silent_since.micros());
    Ok(changed(conn, forget).await?)
}

fn standing_of(row: &AnyRow) -> Result<Standing> {
    Ok(Standing {
        state: parsed(row, "state")?,
        project: parsed_if_any::<ProjectId>(row, "project")?,
        is_leased: row.try_get::<Option<&str>, _>("owner")?.is_some(),
        leased_until: timestamp_if_any(row, "leased_until")?,
        free_since: timestamp(row, "free_since")?,
    })
}

fn leased_of(row: &AnyRow) -> Result<Leased> {
    Ok(Leased {
        id: parsed(row, "id")?,
        url: row.try_get("url")?,
        token: row.try_get("token")?,
    })
}
