//! SQL for tables and views.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row, query};

use super::{changed, json, number, parsed, parsed_if_any, placeholders, timestamp, unreadable};
use crate::Result;
use crate::catalog::{Relation, TableRecord, TableState, View, ViewRecord};
use crate::clock::Timestamp;
use crate::ids::{DatasetName, ProjectId, QueryId, TableName, TableUid};
use crate::tables::{TableLocation, Version};

/// The columns of a relation, by name: a gateway that is one release behind must not be surprised by a new one.
macro_rules! select_relations {
    ($which:literal) => {
        concat!(
            "select uid, project, dataset, name, kind, state, created_at, generation, location, version, table_schema, ",
            "view_sql, view_dialect, view_default_dataset, view_columns, view_depends from relations where ",
            $which
        )
    };
}

/// Whether anything below the dataset has a name.
pub(crate) async fn any_in(conn: &mut AnyConnection, project: &ProjectId, dataset: &DatasetName) -> Result<bool> {
    let row = query("select uid from relations where project = $1 and dataset = $2 and state = 'live' limit 1")
        .bind(project.as_str())
        .bind(dataset.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Takes the names of everything below a dataset.
pub(crate) async fn delete_all_in(
    conn: &mut AnyConnection,
    project: &ProjectId,
    dataset: &DatasetName,
    now: Timestamp,
) -> Result<()> {
    let tables = query(
        "update relations set state = 'deleted', deleted_at = $3
         where project = $1 and dataset = $2 and kind = 'table' and state = 'live'",
    )
    .bind(project.as_str())
    .bind(dataset.as_str())
    .bind(now.micros());
    changed(conn, tables).await?;

    let views = query("delete from relations where project = $1 and dataset = $2 and kind = 'view'")
        .bind(project.as_str())
        .bind(dataset.as_str());
    changed(conn, views).await?;
    Ok(())
}

/// One more than any table of this name ever had.
pub(crate) async fn next_generation(conn: &mut AnyConnection, project: &ProjectId, name: &TableName) -> Result<u32> {
    let row = query(
        "select coalesce(max(generation), 0) + 1 as next from relations
         where project = $1 and dataset = $2 and name = $3 and kind = 'table'",
    )
    .bind(project.as_str())
    .bind(name.dataset().as_str())
    .bind(name.table())
    .fetch_one(conn)
    .await?;
    number(&row, "next")
}

pub(crate) async fn insert_table(conn: &mut AnyConnection, table: &TableRecord, by: &QueryId) -> Result<()> {
    let insert = query(
        "insert into relations (
             uid, project, dataset, name, kind, state, created_at, created_by, generation, location, version,
             table_schema, view_sql, view_columns, view_depends
         ) values ($1, $2, $3, $4, 'table', $5, $6, $7, $8, $9, $10, $11, '', '', '[]')",
    )
    .bind(table.uid.to_string())
    .bind(table.project.as_str())
    .bind(table.name.dataset().as_str())
    .bind(table.name.table())
    .bind(table.state.as_str())
    .bind(table.created_at.micros())
    .bind(by.to_string())
    .bind(i64::from(table.generation))
    .bind(table.location.to_string())
    .bind(stored_version(table.version)?)
    .bind(table.schema.as_str());
    changed(conn, insert).await?;
    Ok(())
}

pub(crate) async fn insert_view(
    conn: &mut AnyConnection,
    project: &ProjectId,
    name: &TableName,
    view: &View,
    now: Timestamp,
) -> Result<()> {
    let insert = query(
        "insert into relations (
             uid, project, dataset, name, kind, state, created_at, generation, location, version, table_schema,
             view_sql, view_dialect, view_default_dataset, view_columns, view_depends
         ) values ($1, $2, $3, $4, 'view', 'live', $5, 0, '', 0, '', $6, $7, $8, $9, $10)",
    )
    .bind(TableUid::new(now).to_string())
    .bind(project.as_str())
    .bind(name.dataset().as_str())
    .bind(name.table())
    .bind(now.micros())
    .bind(view.sql.as_str())
    .bind(view.dialect.as_str())
    .bind(view.default_dataset.as_ref().map(DatasetName::as_str))
    .bind(view.columns.as_str())
    .bind(serde_json::to_string(&view.depends).map_err(unreadable)?);
    changed(conn, insert).await?;
    Ok(())
}

/// A view leaves nothing behind, so its row goes.
pub(crate) async fn delete_view(conn: &mut AnyConnection, project: &ProjectId, name: &TableName) -> Result<()> {
    let delete = query("delete from relations where project = $1 and dataset = $2 and name = $3 and kind = 'view'")
        .bind(project.as_str())
        .bind(name.dataset().as_str())
        .bind(name.table());
    changed(conn, delete).await?;
    Ok(())
}

/// A table leaves files behind, so its row stays.
pub(crate) async fn delete_table(conn: &mut AnyConnection, uid: &TableUid, now: Timestamp) -> Result<bool> {
    let delete = query("update relations set state = 'deleted', deleted_at = $2 where uid = $1 and state = 'live'")
        .bind(uid.to_string())
        .bind(now.micros());
    Ok(changed(conn, delete).await? > 0)
}

/// Gives a reserved table its name. False when it is not reserved any more.
pub(crate) async fn publish_table(
    conn: &mut AnyConnection,
    uid: &TableUid,
    version: Version,
    schema: &str,
) -> Result<bool> {
    let publish = query(
        "update relations set state = 'live', version = $2, table_schema = $3 where uid = $1 and state = 'creating'",
    )
    .bind(uid.to_string())
    .bind(stored_version(version)?)
    .bind(schema);
    Ok(changed(conn, publish).await? > 0)
}

/// Versions go forward only.
pub(crate) async fn advance_table(conn: &mut AnyConnection, uid: &TableUid, version: Version) -> Result<()> {
    let advance = query("update relations set version = $2 where uid = $1 and version < $2")
        .bind(uid.to_string())
        .bind(stored_version(version)?);
    changed(conn, advance).await?;
    Ok(())
}

/// False when the table is live.
pub(crate) async fn purge_table(conn: &mut AnyConnection, uid: &TableUid, now: Timestamp) -> Result<bool> {
    let purge = query("update relations set state = 'purged', purged_at = $2 where uid = $1 and state <> 'live'")
        .bind(uid.to_string())
        .bind(now.micros());
    Ok(changed(conn, purge).await? > 0)
}

pub(crate) async fn garbage(conn: &mut AnyConnection, older_than: Timestamp) -> Result<Vec<TableRecord>> {
    let rows = query(select_relations!(
        "kind = 'table' and (
             (state = 'deleted' and deleted_at < $1)
             or (state = 'creating' and created_at < $1 and not exists (
                 select 1 from queries where queries.id = relations.created_by and queries.ended_at is null
             ))
         ) order by uid"
    ))
    .bind(older_than.micros())
    .fetch_all(conn)
    .await?;
    rows.iter().map(table_of).collect()
}

/// A table by its uid, in whatever state it is.
pub(crate) async fn table(
    conn: &mut AnyConnection,
    project: &ProjectId,
    uid: &TableUid,
) -> Result<Option<TableRecord>> {
    let row = query(select_relations!("uid = $1 and project = $2 and kind = 'table'"))
        .bind(uid.to_string())
        .bind(project.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(table_of).transpose()
}

/// What has this name.
pub(crate) async fn live(conn: &mut AnyConnection, project: &ProjectId, name: &TableName) -> Result<Option<Relation>> {
    let row = query(select_relations!(
        "project = $1 and dataset = $2 and name = $3 and state = 'live'"
    ))
    .bind(project.as_str())
    .bind(name.dataset().as_str())
    .bind(name.table())
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(relation_of).transpose()
}

pub(crate) async fn all(
    conn: &mut AnyConnection,
    project: &ProjectId,
    dataset: Option<&DatasetName>,
) -> Result<Vec<Relation>> {
    let rows = query(select_relations!(
        "project = $1 and ($2 is null or dataset = $2) and state = 'live'
         order by dataset, name"
    ))
    .bind(project.as_str())
    .bind(dataset.map(DatasetName::as_str))
    .fetch_all(conn)
    .await?;
    rows.iter().map(relation_of).collect()
}

/// What has these names, in one statement and therefore in one snapshot.
pub(crate) async fn named(
    conn: &mut AnyConnection,
    project: &ProjectId,
    wanted: &[TableName],
) -> Result<Vec<Relation>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    // A name has no dot, so the two parts joined by one mean one name only.
    let sql = format!(
        select_relations!("project = $1 and state = 'live' and name in ({}) and dataset || '.' || name in ({})"),
        placeholders(2, wanted.len()),
        placeholders(2 + wanted.len(), wanted.len()),
    );
    // Only numbers were put into the text.
    let mut select = query(AssertSqlSafe(sql)).bind(project.as_str());
    for name in wanted {
        select = select.bind(name.table());
    }
    for name in wanted {
        select = select.bind(name.to_string());
    }
    let rows = select.fetch_all(conn).await?;
    rows.iter().map(relation_of).collect()
}

fn relation_of(row: &AnyRow) -> Result<Relation> {
    match row.try_get::<&str, _>("kind")? {
        "table" => table_of(row).map(Relation::Table),
        "view" => view_of(row).map(Relation::View),
        other => Err(unreadable(format!("a relation of kind {other}"))),
    }
}

fn table_of(row: &AnyRow) -> Result<TableRecord> {
    Ok(TableRecord {
        uid: parsed(row, "uid")?,
        project: parsed(row, "project")?,
        name: name_of(row)?,
        generation: number(row, "generation")?,
        location: TableLocation::spelled(row.try_get("location")?),
        version: number(row, "version")?,
        schema: row.try_get("table_schema")?,
        created_at: timestamp(row, "created_at")?,
        state: TableState::stored(row.try_get("state")?)?,
    })
}

fn view_of(row: &AnyRow) -> Result<ViewRecord> {
    Ok(ViewRecord {
        project: parsed(row, "project")?,
        name: name_of(row)?,
        sql: row.try_get("view_sql")?,
        dialect: row.try_get("view_dialect")?,
        default_dataset: parsed_if_any(row, "view_default_dataset")?,
        columns: row.try_get("view_columns")?,
        depends: json(row, "view_depends")?,
        created_at: timestamp(row, "created_at")?,
    })
}

fn name_of(row: &AnyRow) -> Result<TableName> {
    TableName::new(parsed(row, "dataset")?, row.try_get("name")?).map_err(unreadable)
}

fn stored_version(version: Version) -> Result<i64> {
    i64::try_from(version).map_err(unreadable)
}

impl TableState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Live => "live",
            Self::Deleted => "deleted",
            Self::Purged => "purged",
        }
    }

    fn stored(text: &str) -> Result<Self> {
        match text {
            "creating" => Ok(Self::Creating),
            "live" => Ok(Self::Live),
            "deleted" => Ok(Self::Deleted),
            "purged" => Ok(Self::Purged),
            other => Err(unreadable(format!("a table in state {other}"))),
        }
    }
}
