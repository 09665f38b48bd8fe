//! SQL for projects and their datasets.

use sqlx::{AnyConnection, query};

use super::{changed, flag_missing_project, parsed, timestamp};
use crate::Result;
use crate::catalog::Dataset;
use crate::clock::Timestamp;
use crate::ids::{DatasetName, ProjectId};

/// False when the project is there already.
pub(crate) async fn insert_project(conn: &mut AnyConnection, id: &ProjectId, now: Timestamp) -> Result<bool> {
    let insert = query("insert into projects (id, created_at) values ($1, $2) on conflict do nothing")
        .bind(id.as_str())
        .bind(now.micros());
    if changed(conn, insert).await? == 0 {
        return Ok(false);
    }
    super::ledger::insert_head(conn, id).await?;
    Ok(true)
}

pub(crate) async fn projects(conn: &mut AnyConnection) -> Result<Vec<ProjectId>> {
    let rows = query("select id from projects order by id").fetch_all(conn).await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// False when the dataset is there already.
pub(crate) async fn insert_dataset(
    conn: &mut AnyConnection,
    project: &ProjectId,
    name: &DatasetName,
    now: Timestamp,
) -> Result<bool> {
    let insert = query("insert into datasets (project, name, created_at) values ($1, $2, $3) on conflict do nothing")
        .bind(project.as_str())
        .bind(name.as_str())
        .bind(now.micros());
    let inserted = changed(conn, insert)
        .await
        .map_err(|error| flag_missing_project(error, project))?;
    Ok(inserted > 0)
}

/// Keeps others from changing the names below a dataset until the transaction ends. False when there is no dataset.
pub(crate) async fn lock_dataset(conn: &mut AnyConnection, project: &ProjectId, name: &DatasetName) -> Result<bool> {
    let lock = query("update datasets set changes = changes + 1 where project = $1 and name = $2")
        .bind(project.as_str())
        .bind(name.as_str());
    Ok(changed(conn, lock).await? > 0)
}

pub(crate) async fn delete_dataset(conn: &mut AnyConnection, project: &ProjectId, name: &DatasetName) -> Result<()> {
    let delete = query("delete from datasets where project = $1 and name = $2")
        .bind(project.as_str())
        .bind(name.as_str());
    changed(conn, delete).await?;
    Ok(())
}

pub(crate) async fn datasets(conn: &mut AnyConnection, project: &ProjectId) -> Result<Vec<Dataset>> {
    let rows = query("select name, created_at from datasets where project = $1 order by name")
        .bind(project.as_str())
        .fetch_all(conn)
        .await?;
    let dataset = |row| {
        Ok(Dataset {
            name: parsed(row, "name")?,
            created_at: timestamp(row, "created_at")?,
        })
    };
    rows.iter().map(dataset).collect()
}
