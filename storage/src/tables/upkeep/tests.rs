use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use object_store::ObjectStoreExt;

use super::*;
use crate::clock::Clock;
use crate::tables::WriteOptions;
use crate::tables::harness::{World, batch, place};

fn numbers(values: std::ops::Range<i64>) -> RecordBatch {
    batch(vec![("id", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)])
}

/// Objects in memory carry the machine's time, so it is the machine's time that says how old they are.
fn later() -> Timestamp {
    Clock::System.now().plus(Duration::from_secs(3_600))
}

async fn nobody() -> Result<HashSet<QueryId>> {
    Ok(HashSet::new())
}

async fn names(world: &World) -> Vec<String> {
    let store = world.tables.bucket().store();
    let mut names: Vec<String> = store
        .list(None)
        .map_ok(|object| object.location.to_string())
        .try_collect()
        .await
        .expect("a list");
    names.sort();
    names
}

#[tokio::test]
async fn a_file_that_no_version_mentions_is_removed_once_it_is_old() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    world.append(&numbers(1..2)).await;
    world
        .tables
        .truncate(&world.at, &world.fresh_note())
        .await
        .expect("it can be truncated");
    world.append(&numbers(2..3)).await;
    let before = names(&world).await;
    let orphans = world.file(&numbers(5..6)).await;

    let young = world
        .tables
        .remove_orphans(&world.at, Timestamp::from_micros(0), nobody)
        .await
        .expect("nothing to do");
    let old = world
        .tables
        .remove_orphans(&world.at, later(), nobody)
        .await
        .expect("one to remove");

    assert_eq!((young, old), (0, orphans.len() as u64));
    // The log, and what its past versions mention, are untouched.
    assert_eq!(names(&world).await, before);
    for version in 0..=3 {
        let snapshot = world
            .elsewhere()
            .snapshot(&world.at, version)
            .await
            .expect("it is in the log");
        let sql = "select count(*) from t where id >= 0";
        crate::tables::harness::ask(world.tables.bucket(), &snapshot, sql).await;
    }
}

#[tokio::test]
async fn a_file_is_safe_from_the_moment_its_commit_has_landed() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    let files = world.file(&numbers(1..2)).await;
    // This process has a stale idea of the newest version; another has committed since.
    world
        .elsewhere()
        .append(&world.at, files, &world.fresh_note())
        .await
        .expect("it lands");

    let removed = world
        .tables
        .remove_orphans(&world.at, later(), nobody)
        .await
        .expect("nothing to do");

    assert_eq!(removed, 0);
    assert_eq!(world.number("select count(*) from t where id >= 0").await, 2);
}

#[tokio::test]
async fn checkpoints_are_not_orphans() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    let checkpoint = Path::from(format!(
        "{}/_delta_log/00000000000000000000.checkpoint.parquet",
        world.at
    ));
    world
        .tables
        .bucket()
        .store()
        .put(&checkpoint, "not really".into())
        .await
        .expect("a put");

    let removed = world
        .tables
        .remove_orphans(&world.at, later(), nobody)
        .await
        .expect("nothing to do");

    assert_eq!(removed, 0);
}

#[tokio::test]
async fn without_the_whole_log_nothing_is_an_orphan() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    world.append(&numbers(1..2)).await;
    world.file(&numbers(5..6)).await;
    world
        .tables
        .bucket()
        .store()
        .delete(&world.at.log_entry(0))
        .await
        .expect("it is there");

    let removed = world
        .tables
        .remove_orphans(&world.at, later(), nobody)
        .await
        .expect("nothing is sure");

    assert_eq!(removed, 0);
}

#[tokio::test]
async fn a_removed_table_leaves_nothing_and_its_neighbours_alone() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    world.append(&numbers(1..2)).await;
    let neighbour = format!("{}.2/part-0.parquet", place("orders"));
    world
        .tables
        .bucket()
        .store()
        .put(&Path::from(neighbour.clone()), "kept".into())
        .await
        .expect("a put");

    let removed = world.tables.remove(&world.at).await.expect("it can be removed");
    let again = world.tables.remove(&world.at).await.expect("it is gone");

    assert_eq!((removed, again), (4, 0));
    assert_eq!(names(&world).await, [neighbour]);
    assert!(matches!(world.tables.latest(&world.at).await, Err(Error::NotFound(_))));
    assert!(matches!(
        world.tables.snapshot(&world.at, 0).await,
        Err(Error::NotFound(_))
    ));
}

#[tokio::test]
async fn a_file_of_a_query_that_still_runs_stays_however_old_it_is() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    let query = world.query();
    let written = world
        .files(&numbers(1..2), &WriteOptions::new(query.clone(), 0, 0))
        .await
        .expect("the rows can be stored");
    let running = async || Ok(HashSet::from([query.clone()]));

    let removed = world.tables.remove_orphans(&world.at, later(), running).await;

    assert_eq!(removed.expect("nothing to do"), 0);
    let note = world.note(&query);
    world
        .tables
        .append(&world.at, written, &note)
        .await
        .expect("it commits at last");
    assert_eq!(world.number("select count(*) from t where id >= 0").await, 2);
}
