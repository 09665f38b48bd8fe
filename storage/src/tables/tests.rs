use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int32Type};
use futures::future::join_all;
use futures::stream;
use object_store::ObjectStoreExt;

use super::harness::{Lie, World, ask, batch, open, place, stored};
use super::*;

fn numbers(values: std::ops::Range<i64>) -> RecordBatch {
    batch(vec![("id", Arc::new(Int64Array::from_iter_values(values)))])
}

async fn ids(tables: &Tables, snapshot: &Arc<TableSnapshot>) -> Vec<i64> {
    let (rows, _) = ask(tables.bucket(), snapshot, "select id from t order by id").await;
    rows.iter()
        .flat_map(|rows| {
            rows.column(0)
                .as_primitive::<arrow::datatypes::Int64Type>()
                .values()
                .to_vec()
        })
        .collect()
}

#[tokio::test]
async fn a_table_holds_what_was_written_at_every_version() {
    let world = World::new();

    let created = world.create(&[numbers(0..3)]).await;
    let appended = world.append(&numbers(3..5)).await;
    let truncated = world
        .tables
        .truncate(&world.at, &world.fresh_note())
        .await
        .expect("it can be truncated");
    let filled = world.append(&numbers(7..8)).await;

    assert_eq!((created.version(), appended, truncated, filled), (0, 1, 2, 3));
    for tables in [&world.tables, &world.elsewhere()] {
        let mut contents = Vec::new();
        for version in 0..=3 {
            let snapshot = tables.snapshot(&world.at, version).await.expect("it is in the log");
            contents.push((
                ids(tables, &snapshot).await,
                snapshot.rows(),
                snapshot.files(),
                snapshot.logical_bytes(),
            ));
        }
        let expected = [
            (vec![0, 1, 2], 3, 1, 24),
            (vec![0, 1, 2, 3, 4], 5, 2, 40),
            (vec![], 0, 0, 0),
            (vec![7], 1, 1, 8),
        ];
        assert_eq!(contents, expected);
    }
}

#[tokio::test]
async fn a_table_may_begin_empty() {
    let world = World::new();
    let schema = stored(&numbers(0..1));

    let version = world
        .tables
        .create(&world.at, &schema, vec![], &world.fresh_note())
        .await
        .expect("it is created");

    assert_eq!(version, 0);
    assert_eq!(
        world.elsewhere().latest(&world.at).await.expect("it is there").schema(),
        schema
    );
    assert_eq!(world.number("select count(*) from t").await, 0);
}

#[tokio::test]
async fn a_place_holds_one_table() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;

    let files = world.file(&numbers(1..2)).await;
    let refusal = world
        .tables
        .create(&world.at, &stored(&numbers(0..1)), files, &world.fresh_note())
        .await;

    assert!(matches!(refusal, Err(Error::AlreadyExists(_))), "{refusal:?}");
    assert_eq!(world.number("select count(*) from t").await, 1);
}

#[tokio::test]
async fn a_version_that_is_not_there_is_not_found() {
    let world = World::new();
    assert!(matches!(world.tables.latest(&world.at).await, Err(Error::NotFound(_))));
    assert!(matches!(
        world.tables.snapshot(&world.at, 0).await,
        Err(Error::NotFound(_))
    ));
    assert!(matches!(
        world.tables.append(&world.at, vec![], &world.fresh_note()).await,
        Err(Error::NotFound(_))
    ));

    world.create(&[numbers(0..1)]).await;
    let missing = world
        .tables
        .snapshot(&world.at, 5)
        .await
        .expect_err("there is only version 0");

    assert_eq!(
        missing.to_string(),
        "the table at tables/acme/sales/orders has no version 5; the newest is 0"
    );
}

#[tokio::test]
async fn a_query_commits_to_a_table_once() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    let query = world.query();
    let note = world.note(&query);

    let first = world
        .tables
        .append(&world.at, world.file(&numbers(1..2)).await, &note)
        .await
        .expect("it commits");
    world.append(&numbers(5..6)).await;
    let again = world
        .tables
        .append(&world.at, world.file(&numbers(1..2)).await, &note)
        .await
        .expect("it has");
    let other_process = world.elsewhere();
    let elsewhere = other_process
        .append(&world.at, world.file(&numbers(1..2)).await, &note)
        .await
        .expect("it has");
    let truncated = other_process.truncate(&world.at, &note).await.expect("it has");

    assert_eq!((first, again, elsewhere, truncated), (1, 1, 1, 1));
    assert_eq!(world.number("select count(*) from t").await, 3);
    let found = other_process.find_commit_or_fence(&world.at, &note).await;
    assert_eq!(found.expect("a log"), Some(1));
}

#[tokio::test]
async fn a_query_that_was_given_up_cannot_commit_any_more() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    let note = world.fresh_note();
    let upkeep = world.elsewhere();

    let found = upkeep.find_commit_or_fence(&world.at, &note).await;
    let late = world
        .tables
        .append(&world.at, world.file(&numbers(1..2)).await, &note)
        .await;
    let asked_again = upkeep.find_commit_or_fence(&world.at, &note).await;

    assert_eq!(found.expect("a log"), None);
    assert!(matches!(late, Err(Error::Conflict(_))), "{late:?}");
    assert_eq!(asked_again.expect("a log"), None);
    assert_eq!(world.number("select count(*) from t").await, 1);
    world.append(&numbers(5..6)).await;
    assert_eq!(world.number("select count(*) from t").await, 2);
}

#[tokio::test]
async fn a_table_whose_query_was_given_up_is_never_made() {
    let world = World::new();
    let note = world.fresh_note();
    let upkeep = world.elsewhere();

    let found = upkeep.find_commit_or_fence(&world.at, &note).await;
    let schema = stored_schema(&numbers(0..1).schema()).expect("it can be stored");
    let late = world.tables.create(&world.at, &schema, vec![], &note).await;

    assert_eq!(found.expect("no log, no commit"), None);
    assert!(matches!(late, Err(Error::AlreadyExists(_))), "{late:?}");
}

#[tokio::test]
async fn a_commit_is_found_although_the_clock_went_back() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    let note = CommitNote {
        since: Some(0),
        ..world.fresh_note()
    };
    world
        .tables
        .append(&world.at, world.file(&numbers(1..2)).await, &note)
        .await
        .expect("it commits");
    let an_hour_ago = CommitNote {
        at: note.at.minus(std::time::Duration::from_secs(3_600)),
        ..world.fresh_note()
    };
    world
        .tables
        .append(&world.at, vec![], &an_hour_ago)
        .await
        .expect("it commits");

    let found = world.elsewhere().find_commit_or_fence(&world.at, &note).await;

    assert_eq!(found.expect("a log"), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_all_land_once() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    // Two processes that know nothing of each other, five writers each.
    let processes = [world.tables.clone(), world.elsewhere()];

    let mut writers = Vec::new();
    for writer in 1..=10 {
        let files = world.file(&numbers(writer..writer + 1)).await;
        let (tables, at, note) = (
            processes[writer as usize % 2].clone(),
            world.at.clone(),
            world.fresh_note(),
        );
        writers.push(tokio::spawn(async move { tables.append(&at, files, &note).await }));
    }
    let mut versions: Vec<Version> = join_all(writers)
        .await
        .into_iter()
        .map(|version| version.expect("no panic").expect("it lands"))
        .collect();

    versions.sort_unstable();
    assert_eq!(versions, (1..=10).collect::<Vec<_>>());
    let tables = world.elsewhere();
    let latest = tables.latest(&world.at).await.expect("the table");
    assert_eq!(ids(&tables, &latest).await, (0..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_recognised_as_ours() {
    for lie in [Lie::LosesTheAnswer, Lie::SaysItWasThere] {
        let world = World::new();
        let query = world.query();

        world.store.lie(lie);
        world.create(&[numbers(0..1)]).await;
        world.store.lie(lie);
        let files = world.file(&numbers(1..2)).await;
        let version = world
            .tables
            .append(&world.at, files, &world.note(&query))
            .await
            .expect("it is there");

        assert_eq!(version, 1, "{lie:?}");
        assert_eq!(
            world
                .tables
                .find_commit_or_fence(&world.at, &world.note(&query))
                .await
                .expect("a log"),
            Some(1)
        );
        let tables = world.elsewhere();
        assert_eq!(
            ids(&tables, &tables.latest(&world.at).await.expect("the table")).await,
            [0, 1],
            "{lie:?}"
        );
    }
}

#[tokio::test]
async fn a_commit_that_never_arrived_can_be_tried_again() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    let note = world.fresh_note();
    let files = world.file(&numbers(1..2)).await;

    world.store.lie(Lie::NeverArrives);
    let first = world.tables.append(&world.at, files.clone(), &note).await;
    let second = world.tables.append(&world.at, files, &note).await;

    assert!(matches!(first, Err(Error::Unavailable(_))), "{first:?}");
    assert_eq!(second.expect("now it lands"), 1);
    assert_eq!(world.number("select count(*) from t").await, 2);
}

/// Whichever comes first, the rows of an append are all removed or all kept, as the order of the log says.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_beside_a_truncation_is_wholly_before_or_wholly_after_it() {
    for _ in 0..5 {
        let world = World::new();
        world.create(&[numbers(0..10)]).await;
        let files = world.file(&numbers(10..12)).await;
        let (append_note, truncate_note) = (world.fresh_note(), world.fresh_note());
        let (appender, truncater) = (world.elsewhere(), world.elsewhere());
        let (here, there) = (world.at.clone(), world.at.clone());

        let appended = tokio::spawn(async move { appender.append(&here, files, &append_note).await });
        let truncated = tokio::spawn(async move { truncater.truncate(&there, &truncate_note).await });
        let appended = appended.await.expect("no panic").expect("it lands");
        let truncated = truncated.await.expect("no panic").expect("it lands");

        let tables = world.elsewhere();
        let left = ids(&tables, &tables.latest(&world.at).await.expect("the table")).await;
        let expected: Vec<i64> = if appended > truncated { vec![10, 11] } else { vec![] };
        assert_eq!(left, expected, "append {appended}, truncate {truncated}");
    }
}

#[tokio::test]
async fn a_commit_must_not_remove_what_an_unseen_commit_removed() {
    let world = World::new();
    let created = world.create(&[numbers(0..1)]).await;
    world
        .tables
        .truncate(&world.at, &world.fresh_note())
        .await
        .expect("it can be truncated");

    // What the library does when it retries a compaction of version 0 on top of version 1.
    let note = world.fresh_note();
    let actions = created.removals(note.at);
    let bytes = log::commit(&note, Some(0), false, &actions).expect("actions");
    let log = Guard::open(world.tables.bucket(), &world.at);
    let refusal = log
        .write_commit_entry(2, CommitOrBytes::LogBytes(bytes), Uuid::nil())
        .await;

    let refusal = refusal.expect_err("the file is gone already").to_string();
    assert!(refusal.contains("version 1 has already removed part-"), "{refusal}");
    assert_eq!(
        world.elsewhere().latest(&world.at).await.expect("the table").version(),
        1
    );
}

#[tokio::test]
async fn a_version_that_was_read_before_is_read_without_a_request() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    world.append(&numbers(1..2)).await;
    world.tables.snapshot(&world.at, 1).await.expect("it is there");
    world.store.requests();

    let snapshot = world.tables.snapshot(&world.at, 1).await.expect("it is there");
    assert_eq!(world.store.requests(), 0);

    // Planning is free too; the rows are not.
    let session = datafusion::prelude::SessionContext::new();
    session.register_object_store(&Bucket::root_url(), world.tables.bucket().store());
    session
        .register_table("t", snapshot.provider(&Keys::default(), ScanLog::default()))
        .expect("the name is free");
    let plan = session
        .sql("select id from t where id > 0")
        .await
        .expect("good SQL")
        .create_physical_plan()
        .await;
    assert!(plan.is_ok());
    assert_eq!(world.store.requests(), 0);
}

#[tokio::test]
async fn a_version_just_after_a_cached_one_costs_one_request() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    let version = world.append(&numbers(1..2)).await;
    world.store.requests();

    let snapshot = world.tables.snapshot(&world.at, version).await.expect("it is there");

    assert_eq!(world.store.requests(), 1);
    assert_eq!(snapshot.rows(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_for_one_version_at_once_share_the_work() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    let alone = world.elsewhere();
    world.store.requests();
    alone.snapshot(&world.at, 0).await.expect("it is there");
    let for_one = world.store.requests();

    let crowd = world.elsewhere();
    let answers = join_all((0..20).map(|_| crowd.snapshot(&world.at, 0))).await;

    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(world.store.requests(), for_one);
}

#[tokio::test]
async fn history_says_who_did_what_newest_first() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    world.append(&numbers(1..2)).await;
    let query = world.query();
    let note = CommitNote {
        operation: "TRUNCATE",
        ..world.note(&query)
    };
    world
        .tables
        .truncate(&world.at, &note)
        .await
        .expect("it can be truncated");

    let history = world.elsewhere().history(&world.at, 2).await.expect("a table");

    assert_eq!(history.iter().map(|line| line.version).collect::<Vec<_>>(), [2, 1]);
    let at = Timestamp::from_micros(note.at.micros() / 1_000 * 1_000);
    assert_eq!(
        history[0],
        CommitLine {
            version: 2,
            at,
            operation: "TRUNCATE".to_owned(),
            query: Some(query)
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_says_the_same_as_the_versions_it_stands_for() {
    let world = World::new();
    world.create(&[numbers(0..1)]).await;
    for id in 1..101 {
        world.append(&numbers(id..id + 1)).await;
    }
    let store = world.tables.bucket().store();
    let checkpoint = Path::from(format!("{}/_delta_log/{:020}.checkpoint.parquet", world.at, 99));
    store
        .head(&checkpoint)
        .await
        .expect("the hundredth version has a checkpoint");
    // What the checkpoint stands for is no longer needed to read the table.
    for version in 0..99 {
        store.delete(&world.at.log_entry(version)).await.expect("it is there");
    }

    let (cached, fresh) = (
        world.tables.latest(&world.at).await,
        world.elsewhere().latest(&world.at).await,
    );

    let (cached, fresh) = (cached.expect("cached"), fresh.expect("from the checkpoint"));
    for snapshot in [&cached, &fresh] {
        assert_eq!((snapshot.version(), snapshot.rows(), snapshot.files()), (100, 101, 101));
        assert_eq!(snapshot.logical_bytes(), 101 * 8);
        let (_, scans) = ask(world.tables.bucket(), snapshot, "select id from t where id = 42").await;
        assert_eq!((scans.tables()[0].files, scans.bytes()), (1, 8));
    }
    assert_eq!(fresh.schema(), cached.schema());
}

#[tokio::test]
async fn a_table_in_a_directory_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = Url::from_directory_path(directory.path()).expect("an absolute path");
    let world = World::new();
    let rows = numbers(0..3);
    let schema = stored(&rows);

    let at = place("local");
    let tables = Tables::new(open(url.as_str()));
    let query = world.query();
    let stream = datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(
        Arc::clone(&schema),
        stream::iter([Ok(rows.clone()), Ok(rows)]),
    );
    let options = WriteOptions::new(query.clone(), 1, 7);
    let files = write_files(tables.bucket(), &at, &schema, Box::pin(stream), &options)
        .await
        .expect("a write");
    tables
        .create(&at, &schema, files, &world.note(&query))
        .await
        .expect("a commit");
    drop(tables);

    let tables = Tables::new(open(url.as_str()));
    let snapshot = tables.latest(&at).await.expect("it is there");
    assert_eq!(ids(&tables, &snapshot).await, [0, 0, 1, 1, 2, 2]);
    assert_eq!(
        tables
            .history(&at, 9)
            .await
            .expect("a log")
            .last()
            .and_then(|line| line.query.clone()),
        Some(query.clone())
    );
    let file = directory
        .path()
        .join(format!("tables/acme/sales/local/part-00007-{query}-1-0.zstd.parquet"));
    assert_eq!(
        std::fs::metadata(file).expect("where it should be").len(),
        snapshot.bytes()
    );
}

#[tokio::test]
async fn every_storable_value_comes_back() {
    let world = World::new();
    let rows = every_type();
    let snapshot = world.create(&[rows.clone(), rows.slice(0, 1)]).await;

    let (answer, _) = ask(world.tables.bucket(), &snapshot, "select * from t").await;
    let answer = concat_batches(&answer[0].schema(), &answer).expect("one schema");

    assert_eq!(answer.num_rows(), rows.num_rows() + 1);
    let first = (0..answer.num_rows() - rows.num_rows() + 1)
        .map(|start| answer.slice(start, rows.num_rows()))
        .find(|part| part.column(0).as_primitive::<Int32Type>().values() == &[0, 1, 2, 3][..])
        .expect("the longer file in one piece");
    for (index, field) in snapshot.schema().fields().iter().enumerate() {
        let came_back = cast(first.column(index), field.data_type()).expect("views are only another form");
        let stored = to_stored(&rows, &snapshot.schema()).expect("all can be stored");
        assert_eq!(came_back.to_data(), stored.column(index).to_data(), "{}", field.name());
    }
    assert_eq!(
        world.elsewhere().latest(&world.at).await.expect("the table").schema(),
        snapshot.schema()
    );
}

#[tokio::test]
async fn a_value_in_no_bound_is_found_all_the_same() {
    let world = World::new();
    world.create(&[every_type(), every_type().slice(0, 1)]).await;

    for (filter, expected) in [
        ("f64 > 1e308", 2), // an infinity, and NaN, which is greater than all
        ("f64 = 'NaN'::double", 1),
        ("f32 > 3e38 or f64 > 'Infinity'::double", 2),
        ("f64 < -1e308", 1),
        ("i64 = 9223372036854775807", 1),
        ("i64 = -9223372036854775808", 1),
        ("day > date '9999-12-31'", 1),
        ("local < arrow_cast('0001-01-01', 'Timestamp(Microsecond, None)')", 1),
        ("text = ''", 1),
        ("text like 'long%'", 1),
        ("text > 'longer than thirty-two characters, so its bound'", 2),
        ("text is null", 2),
        ("flag is not null", 2),
        (
            "dec = arrow_cast('99999999999999999999999999999.999999999', 'Decimal128(38, 9)')",
            1,
        ),
    ] {
        let count = world.number(&format!("select count(*) from t where {filter}")).await;
        assert_eq!(count, expected, "{filter}");
    }
}

/// Four rows of every type a table can hold: NULL, something, and both ends.
fn every_type() -> RecordBatch {
    let text = [
        "",
        "longer than thirty-two characters, so its bound is cut",
        "ünïcödé \u{0} 💥",
    ];
    let decimal = 10_i128.pow(38) - 1;
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
        None,
        Some(vec![Some(i32::MIN), None]),
        Some(vec![]),
        Some(vec![Some(i32::MAX)]),
    ]);
    let fields = vec![
        Arc::new(Field::new("x", DataType::Utf8, true)),
        Arc::new(Field::new("y", DataType::Float32, true)),
    ];
    let parts: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![None, Some("a"), None, Some("")])),
        Arc::new(Float32Array::from(vec![
            None,
            Some(f32::NAN),
            Some(-0.0),
            Some(f32::INFINITY),
        ])),
    ];
    let structs = StructArray::new(fields.into(), parts, Some(vec![false, true, true, true].into()));
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    maps.append(false).expect("a map");
    maps.append(true).expect("a map");
    for (key, value) in [("k", Some("v")), ("l", None)] {
        maps.keys().append_value(key);
        maps.values().append_option(value);
    }
    maps.append(true).expect("a map");
    maps.append(true).expect("a map");

    batch(vec![
        ("row", Arc::new(Int32Array::from(vec![0, 1, 2, 3]))),
        (
            "flag",
            Arc::new(BooleanArray::from(vec![None, Some(true), Some(false), None])),
        ),
        (
            "i8",
            Arc::new(Int8Array::from(vec![None, Some(0), Some(i8::MIN), Some(i8::MAX)])),
        ),
        (
            "i16",
            Arc::new(Int16Array::from(vec![None, Some(0), Some(i16::MIN), Some(i16::MAX)])),
        ),
        (
            "i32",
            Arc::new(Int32Array::from(vec![None, Some(0), Some(i32::MIN), Some(i32::MAX)])),
        ),
        (
            "i64",
            Arc::new(Int64Array::from(vec![None, Some(0), Some(i64::MIN), Some(i64::MAX)])),
        ),
        (
            "f32",
            Arc::new(Float32Array::from(vec![
                None,
                Some(0.1),
                Some(f32::MIN),
                Some(f32::MAX),
            ])),
        ),
        (
            "f64",
            Arc::new(Float64Array::from(vec![
                None,
                Some(f64::NAN),
                Some(f64::NEG_INFINITY),
                Some(f64::INFINITY),
            ])),
        ),
        (
            "dec",
            Arc::new(
                Decimal128Array::from(vec![None, Some(1), Some(-decimal), Some(decimal)])
                    .with_precision_and_scale(38, 9)
                    .expect("it fits"),
            ),
        ),
        (
            "text",
            Arc::new(StringArray::from(vec![
                None,
                Some(text[0]),
                Some(text[1]),
                Some(text[2]),
            ])),
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![
                None,
                Some(b"".as_slice()),
                Some(b"\0\xff".as_slice()),
                Some(b"x"),
            ])),
        ),
        (
            "day",
            Arc::new(Date32Array::from(vec![None, Some(0), Some(-719_162), Some(5_000_000)])),
        ),
        (
            "local",
            Arc::new(TimestampMicrosecondArray::from(vec![
                None,
                Some(0),
                Some(-62_200_000_000_000_000),
                Some(1),
            ])),
        ),
        (
            "instant",
            Arc::new(
                TimestampMicrosecondArray::from(vec![None, Some(0), Some(i64::MIN), Some(i64::MAX)])
                    .with_timezone("UTC"),
            ),
        ),
        ("list", Arc::new(lists)),
        ("struct", Arc::new(structs)),
        ("map", Arc::new(maps.finish())),
    ])
}
