//! SQL for principals, their roles, and keys.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row, query};

use super::{
    changed, flag_missing_project, hex, json_if_any, parsed, parsed_if_any, timestamp, timestamp_if_any, unreadable,
};
use crate::Result;
use crate::audit::Actor;
use crate::clock::Timestamp;
use crate::ids::{DatasetName, KeyId, PrincipalName, ProjectId};
use crate::people::{Defaults, Grant, Granted, Key, NewKey, Opened, Principal, PrincipalKind};

/// False when somebody has the name already.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    project: &ProjectId,
    name: &PrincipalName,
    kind: PrincipalKind,
    by: &Actor,
    now: Timestamp,
) -> Result<bool> {
    let insert = query(
        "insert into principals (project, name, kind, created_at, created_by) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
    )
    .bind(project.as_str())
    .bind(name.as_str())
    .bind(kind.as_str())
    .bind(now.micros())
    .bind(by.who.to_string());
    let inserted = changed(conn, insert)
        .await
        .map_err(|error| flag_missing_project(error, project))?;
    Ok(inserted > 0)
}

/// False when there is nobody of that name; so are the next two.
pub(crate) async fn set_disabled(
    conn: &mut AnyConnection,
    project: &ProjectId,
    name: &PrincipalName,
    since: Option<Timestamp>,
) -> Result<bool> {
    // Who is disabled already is so since then.
    let update = query(
        "update principals set disabled_at = case when $3 is null then null else coalesce(disabled_at, $3) end
         where project = $1 and name = $2",
    )
    .bind(project.as_str())
    .bind(name.as_str())
    .bind(since.map(Timestamp::micros));
    Ok(changed(conn, update).await? > 0)
}

pub(crate) async fn set_defaults(
    conn: &mut AnyConnection,
    project: &ProjectId,
    name: Option<&PrincipalName>,
    defaults: Defaults,
) -> Result<bool> {
    let max_cost = defaults.max_cost.map(|most| most.to_string());
    let max_bytes = defaults.max_bytes.map(|most| i64::try_from(most).unwrap_or(i64::MAX));
    let update = match name {
        Some(name) => query("update principals set max_cost = $2, max_bytes = $3 where project = $1 and name = $4")
            .bind(project.as_str())
            .bind(max_cost)
            .bind(max_bytes)
            .bind(name.as_str()),
        None => query("update projects set max_cost = $2, max_bytes = $3 where id = $1")
            .bind(project.as_str())
            .bind(max_cost)
            .bind(max_bytes),
    };
    Ok(changed(conn, update).await? > 0)
}

pub(crate) async fn defaults(conn: &mut AnyConnection, project: &ProjectId) -> Result<Option<Defaults>> {
    let row = query("select max_cost, max_bytes from projects where id = $1")
        .bind(project.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref()
        .map(|row| defaults_of(row, "max_cost", "max_bytes"))
        .transpose()
}

/// Everybody, by name, or one; without their grants.
pub(crate) async fn all(
    conn: &mut AnyConnection,
    project: &ProjectId,
    name: Option<&PrincipalName>,
) -> Result<Vec<Principal>> {
    let rows = query(
        "select name, kind, created_at, disabled_at, max_cost, max_bytes from principals
         where project = $1 and ($2 is null or name = $2) order by name",
    )
    .bind(project.as_str())
    .bind(name.map(PrincipalName::as_str))
    .fetch_all(conn)
    .await?;
    let principal = |row| {
        Ok(Principal {
            name: parsed(row, "name")?,
            kind: parsed(row, "kind")?,
            created_at: timestamp(row, "created_at")?,
            disabled_at: timestamp_if_any(row, "disabled_at")?,
            defaults: defaults_of(row, "max_cost", "max_bytes")?,
            grants: Vec::new(),
        })
    };
    rows.iter().map(principal).collect()
}

/// What he has already stays as it is.
pub(crate) async fn insert_grant(
    conn: &mut AnyConnection,
    project: &ProjectId,
    name: &PrincipalName,
    grant: &Grant,
    by: &Actor,
    now: Timestamp,
) -> Result<()> {
    let insert = query(
        "insert into grants (project, principal, role, dataset, granted_at, granted_by) values ($1, $2, $3, $4, $5, $6)
         on conflict do nothing",
    )
    .bind(project.as_str())
    .bind(name.as_str())
    .bind(grant.role.as_str())
    .bind(place(grant))
    .bind(now.micros())
    .bind(by.who.to_string());
    changed(conn, insert).await?;
    Ok(())
}

/// False when he does not have it.
pub(crate) async fn delete_grant(
    conn: &mut AnyConnection,
    project: &ProjectId,
    name: &PrincipalName,
    grant: &Grant,
) -> Result<bool> {
    let delete = query("delete from grants where project = $1 and principal = $2 and role = $3 and dataset = $4")
        .bind(project.as_str())
        .bind(name.as_str())
        .bind(grant.role.as_str())
        .bind(place(grant));
    Ok(changed(conn, delete).await? > 0)
}

/// Nobody keeps a role in a dataset that is gone, and no key one in its scope: the next dataset of that name is another.
pub(crate) async fn delete_grants_on(
    conn: &mut AnyConnection,
    project: &ProjectId,
    dataset: &DatasetName,
) -> Result<()> {
    let delete = query("delete from grants where project = $1 and dataset = $2")
        .bind(project.as_str())
        .bind(dataset.as_str());
    changed(conn, delete).await?;
    let scoped = query("select hash, scope from api_keys where project = $1 and scope is not null")
        .bind(project.as_str())
        .fetch_all(&mut *conn)
        .await?;
    for row in &scoped {
        let mut scope: Vec<Grant> = super::json(row, "scope")?;
        let before = scope.len();
        scope.retain(|grant| grant.dataset.as_ref() != Some(dataset));
        if scope.len() < before {
            let update = query("update api_keys set scope = $2 where hash = $1")
                .bind(row.try_get::<&str, _>("hash")?)
                .bind(super::queries::text(&scope)?);
            changed(conn, update).await?;
        }
    }
    Ok(())
}

pub(crate) async fn grants(
    conn: &mut AnyConnection,
    project: &ProjectId,
    name: Option<&PrincipalName>,
) -> Result<Vec<Granted>> {
    let rows = query(
        "select principal, role, dataset, granted_at, granted_by from grants
         where project = $1 and ($2 is null or principal = $2) order by principal, dataset, role",
    )
    .bind(project.as_str())
    .bind(name.map(PrincipalName::as_str))
    .fetch_all(conn)
    .await?;
    let granted = |row: &AnyRow| {
        let dataset: &str = row.try_get("dataset")?;
        let dataset = match dataset {
            "" => None,
            name => Some(name.parse().map_err(unreadable)?),
        };
        Ok(Granted {
            principal: parsed(row, "principal")?,
            grant: Grant {
                role: parsed(row, "role")?,
                dataset,
            },
            at: timestamp(row, "granted_at")?,
            by: row.try_get("granted_by")?,
        })
    };
    rows.iter().map(granted).collect()
}

/// False when the key, or one of that name, is there already.
pub(crate) async fn insert_key(
    conn: &mut AnyConnection,
    project: &ProjectId,
    key: &NewKey,
    hash: &[u8; 32],
    by: &Actor,
    now: Timestamp,
) -> Result<bool> {
    let scope = key.scope.as_ref().map(super::queries::text).transpose()?;
    let insert = query(
        "insert into api_keys (hash, project, name, created_at, principal, scope, created_by, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
    )
    .bind(hex(hash))
    .bind(project.as_str())
    .bind(key.name.as_str())
    .bind(now.micros())
    .bind(key.principal.as_ref().map(PrincipalName::as_str))
    .bind(scope)
    .bind(by.who.to_string())
    .bind(key.expires_at.map(Timestamp::micros));
    let inserted = changed(conn, insert)
        .await
        .map_err(|error| flag_missing_project(error, project))?;
    Ok(inserted > 0)
}

/// Every key, the newest first, or one.
pub(crate) async fn keys(conn: &mut AnyConnection, project: &ProjectId, id: Option<&KeyId>) -> Result<Vec<Key>> {
    let rows = query(
        "select hash, name, principal, scope, created_at, expires_at, revoked_at from api_keys
         where project = $1 and ($2 is null or substr(hash, 1, 32) = $2) order by created_at desc, name",
    )
    .bind(project.as_str())
    .bind(id.map(KeyId::digits))
    .fetch_all(conn)
    .await?;
    let key = |row| {
        Ok(Key {
            id: key_id(row)?,
            name: row.try_get("name")?,
            principal: parsed_if_any(row, "principal")?,
            scope: json_if_any(row, "scope")?,
            created_at: timestamp(row, "created_at")?,
            expires_at: timestamp_if_any(row, "expires_at")?,
            revoked_at: timestamp_if_any(row, "revoked_at")?,
        })
    };
    rows.iter().map(key).collect()
}

/// False when there is none, or it was taken away before.
pub(crate) async fn revoke_key(
    conn: &mut AnyConnection,
    project: &ProjectId,
    id: &KeyId,
    now: Timestamp,
) -> Result<bool> {
    let update = query(
        "update api_keys set revoked_at = $3
         where project = $1 and substr(hash, 1, 32) = $2 and revoked_at is null",
    )
    .bind(project.as_str())
    .bind(id.digits())
    .bind(now.micros());
    Ok(changed(conn, update).await? > 0)
}

/// What a key opens, without the grants of its holder.
pub(crate) async fn open(conn: &mut AnyConnection, id: &KeyId, hash: Option<&[u8; 32]>) -> Result<Option<Opened>> {
    let row = query(
        "select k.hash, k.project, k.principal, k.scope, k.expires_at,
                p.max_cost, p.max_bytes, o.max_cost as project_max_cost, o.max_bytes as project_max_bytes
         from api_keys k
         join projects o on o.id = k.project
         left join principals p on p.project = k.project and p.name = k.principal
         where substr(k.hash, 1, 32) = $1 and ($2 is null or k.hash = $2)
           and k.revoked_at is null and p.disabled_at is null",
    )
    .bind(id.digits())
    .bind(hash.map(hex))
    .fetch_optional(conn)
    .await?;
    let opened = |row: &AnyRow| {
        let of_project = defaults_of(row, "project_max_cost", "project_max_bytes")?;
        Ok(Opened {
            project: parsed(row, "project")?,
            key: key_id(row)?,
            principal: parsed_if_any(row, "principal")?,
            grants: Vec::new(),
            scope: json_if_any(row, "scope")?,
            expires_at: timestamp_if_any(row, "expires_at")?,
            defaults: defaults_of(row, "max_cost", "max_bytes")?.or(of_project),
            budgets: Vec::new(),
        })
    };
    row.as_ref().map(opened).transpose()
}

/// False when there is one of that name.
pub(crate) async fn insert_operator_key(
    conn: &mut AnyConnection,
    name: &str,
    hash: &[u8; 32],
    now: Timestamp,
) -> Result<bool> {
    let insert = query("insert into operator_keys (hash, name, created_at) values ($1, $2, $3) on conflict do nothing")
        .bind(hex(hash))
        .bind(name)
        .bind(now.micros());
    Ok(changed(conn, insert).await? > 0)
}

/// False when there is none, or it was taken away before.
pub(crate) async fn revoke_operator_key(conn: &mut AnyConnection, name: &str, now: Timestamp) -> Result<bool> {
    let update = query("update operator_keys set revoked_at = $2 where name = $1 and revoked_at is null")
        .bind(name)
        .bind(now.micros());
    Ok(changed(conn, update).await? > 0)
}

pub(crate) async fn operator(conn: &mut AnyConnection, hash: &[u8; 32]) -> Result<Option<String>> {
    let row = query("select name from operator_keys where hash = $1 and revoked_at is null")
        .bind(hex(hash))
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.try_get("name")).transpose()?)
}

pub(crate) async fn has_operators(conn: &mut AnyConnection) -> Result<bool> {
    let row = query("select 1 from operator_keys limit 1")
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

fn place(grant: &Grant) -> &str {
    grant.dataset.as_ref().map_or("", |dataset| dataset.as_str())
}

fn key_id(row: &AnyRow) -> Result<KeyId> {
    let hash: &str = row.try_get("hash")?;
    let digits = hash.get(..32).unwrap_or(hash);
    format!("k_{digits}").parse().map_err(unreadable)
}

fn defaults_of(row: &AnyRow, max_cost: &str, max_bytes: &str) -> Result<Defaults> {
    let bytes: Option<i64> = row.try_get(max_bytes)?;
    Ok(Defaults {
        max_cost: parsed_if_any(row, max_cost)?,
        max_bytes: bytes.map(u64::try_from).transpose().map_err(unreadable)?,
    })
}
