use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::*;
use crate::tables::Keys;
use crate::tables::harness::{World, ask, batch};

/// Rows `start..start + 4` with a text of three letters: 8 bytes and 5 bytes each.
fn part(start: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(start..start + 4));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(
        (start..start + 4).map(|id| format!("n{id:02}")),
    ));
    batch(vec![("id", ids), ("name", names)])
}

async fn three_files() -> World {
    let world = World::new();
    world.create(&[part(0), part(10), part(20)]).await;
    world
}

async fn read(world: &World, sql: &str) -> (usize, u64, Vec<String>) {
    let (_, scans) = world.ask(sql).await;
    let table = scans.tables().into_iter().next().expect("a table is read");
    assert_eq!(table.bytes, scans.bytes());
    (table.files, scans.bytes(), table.columns)
}

#[tokio::test]
async fn only_files_that_may_match_are_read() {
    let world = three_files().await;

    for (filter, files) in [
        ("id = 12", 1),
        ("id in (1, 21)", 2),
        ("id >= 10", 2),
        ("id > 100", 0),
        ("id between 3 and 10", 2),
        ("name = 'n11'", 1),
        ("name like 'n2%'", 1),
        ("id = 12 or name = 'n00'", 2),
        ("id is null", 0),
        ("id + 1 = 12", 3),
        ("abs(id) = 12", 3),
    ] {
        let (answer, scans) = world.ask(&format!("select id from t where {filter}")).await;
        let rows: usize = answer.iter().map(RecordBatch::num_rows).sum();
        let (expected, _) = ask_all(&world, filter).await;
        assert_eq!(rows, expected, "{filter}");
        assert_eq!(scans.tables().first().map_or(0, |table| table.files), files, "{filter}");
    }
}

/// How many rows pass `filter` when nothing is pruned, because the rows are in memory.
async fn ask_all(world: &World, filter: &str) -> (usize, ()) {
    let (rows, _) = world.ask("select * from t").await;
    let session = SessionContext::new();
    let table = datafusion::datasource::MemTable::try_new(rows[0].schema(), vec![rows]).expect("one schema");
    session.register_table("t", Arc::new(table)).expect("the name is free");
    let frame = session
        .sql(&format!("select id from t where {filter}"))
        .await
        .expect("good SQL");
    (frame.count().await.expect("rows in memory"), ())
}

#[tokio::test]
async fn a_query_pays_for_the_columns_it_mentions_in_the_files_it_needs() {
    let world = three_files().await;
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();

    assert_eq!(
        read(&world, "select * from t").await,
        (3, 12 * 13, all(&["id", "name"]))
    );
    assert_eq!(read(&world, "select id from t").await, (3, 12 * 8, all(&["id"])));
    assert_eq!(read(&world, "select sum(id) from t").await, (3, 12 * 8, all(&["id"])));
    assert_eq!(read(&world, "select count(*) from t").await, (3, 0, vec![]));
    assert_eq!(
        read(&world, "select id from t where name = 'n11'").await,
        (1, 4 * 13, all(&["id", "name"]))
    );
    assert_eq!(
        read(&world, "select count(*) from t where id > 15").await,
        (1, 4 * 8, all(&["id"]))
    );
}

#[tokio::test]
async fn a_column_that_is_mentioned_twice_is_paid_for_once() {
    let world = three_files().await;

    let once = read(&world, "select id from t where id < 5").await.1;
    let joined = read(&world, "select a.id from t a join t b on a.id = b.id").await;
    let overlapping = read(
        &world,
        "select id from t where id < 5 union all select id from t where id < 15",
    )
    .await;

    assert_eq!(once, 4 * 8);
    assert_eq!((joined.0, joined.1), (3, 12 * 8));
    assert_eq!((overlapping.0, overlapping.1), (2, 8 * 8));
}

#[tokio::test]
async fn a_table_at_two_versions_is_two_tables() {
    let world = three_files().await;
    world.append(&part(30)).await;
    let scans = ScanLog::default();
    for version in [0, 1] {
        let snapshot = world.tables.snapshot(&world.at, version).await.expect("it is there");
        let all: Vec<usize> = (0..snapshot.files()).collect();
        scans.record(&snapshot, &BTreeSet::from([0]), &all);
    }

    assert_eq!(scans.bytes(), (12 + 16) * 8);
    assert_eq!(scans.tables().len(), 2);
}

#[tokio::test]
async fn a_limit_without_a_filter_reads_only_as_many_files_as_it_needs() {
    let world = three_files().await;

    assert_eq!(read(&world, "select id from t limit 3").await.0, 1);
    assert_eq!(read(&world, "select id from t limit 4").await.0, 1);
    assert_eq!(read(&world, "select id from t limit 5").await.0, 2);
    assert_eq!(read(&world, "select id from t limit 100").await.0, 3);
    assert_eq!(read(&world, "select id from t order by id limit 1").await.0, 3);
    let (answer, _) = world.ask("select id from t where id > 5 limit 2").await;
    assert_eq!(answer.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    let (answer, _) = world.ask("select id from t limit 5").await;
    assert_eq!(answer.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
}

#[tokio::test]
async fn the_optimiser_may_trust_what_the_log_says() {
    let world = three_files().await;
    world.store.requests();

    let (answer, _) = world.ask("select count(*), min(id), max(id), count(name) from t").await;

    let value = |index: usize| {
        answer[0]
            .column(index)
            .as_primitive::<arrow::datatypes::Int64Type>()
            .value(0)
    };
    assert_eq!((value(0), value(1), value(2), value(3)), (12, 0, 23, 12));
    // Two questions whether the version that is known is still the newest; no data file was opened.
    assert_eq!(world.store.requests(), 2);
}

#[tokio::test]
async fn texts_are_views_and_the_plan_is_a_stock_one() {
    let world = three_files().await;
    let snapshot = world.tables.latest(&world.at).await.expect("the table");
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    session.register_object_store(&Bucket::root_url(), world.tables.bucket().store());
    session
        .register_table("t", snapshot.provider(&Keys::default(), ScanLog::default()))
        .expect("the name is free");

    let frame = session.sql("select name from t").await.expect("good SQL");
    let plan = frame.create_physical_plan().await.expect("a plan");

    assert_eq!(
        plan.schema().field(0).data_type(),
        &arrow::datatypes::DataType::Utf8View
    );
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    assert!(shown.contains("DataSourceExec: file_groups={2 groups"), "{shown}");
    assert!(shown.contains("tables/acme/sales/orders/part-00000-"), "{shown}");
    let (answer, _) = ask(
        world.tables.bucket(),
        &snapshot,
        "select name from t order by name limit 1",
    )
    .await;
    assert_eq!(answer[0].column(0).as_string_view().value(0), "n00");
    assert_eq!(answer[0].column(0).len(), 1);
}

#[test]
fn groups_are_balanced_by_bytes_and_the_same_every_time() {
    let files = |sizes: &[u64]| -> Vec<PartitionedFile> {
        sizes
            .iter()
            .enumerate()
            .map(|(index, size)| PartitionedFile::new(format!("f{index}"), *size))
            .collect()
    };
    let bytes = |groups: Vec<Vec<PartitionedFile>>| -> Vec<u64> {
        groups
            .iter()
            .map(|group| group.iter().map(|file| file.object_meta.size).sum())
            .collect()
    };

    assert_eq!(bytes(balanced(files(&[1, 1, 1, 9]), 2)), [9, 3]);
    assert_eq!(bytes(balanced(files(&[5, 4, 3, 2]), 3)), [5, 4, 5]);
    assert_eq!(bytes(balanced(files(&[5]), 8)), [5]);
    assert_eq!(balanced(files(&[0, 0, 0]), 3).len(), 3);
    assert!(balanced(vec![], 4).is_empty());
}
