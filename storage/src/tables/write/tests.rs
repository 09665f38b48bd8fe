use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::PageIndexPolicy;

use super::*;
use crate::tables::harness::{World, batch, stored};

fn numbers(count: i64) -> RecordBatch {
    // Random enough not to compress.
    let values = (0..count).map(|n| n.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ (n << 7));
    batch(vec![("n", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)])
}

async fn names(world: &World) -> Vec<String> {
    let store = world.tables.bucket().store();
    let mut names: Vec<String> = store
        .list(Some(&world.at.path()))
        .map_ok(|object| object.location.filename().unwrap_or_default().to_owned())
        .try_collect()
        .await
        .expect("a list");
    names.sort();
    names
}

#[tokio::test]
async fn a_file_is_cut_when_it_has_reached_its_size() {
    let world = World::new();
    let query = world.query();
    let options = WriteOptions {
        target_file_bytes: 300_000,
        ..WriteOptions::new(query.clone(), 2, 3)
    };

    let files = world.files(&numbers(200_000), &options).await.expect("a write");

    assert!(files.len() > 3, "{} files", files.len());
    assert_eq!(files.iter().map(WrittenFile::rows).sum::<u64>(), 200_000);
    assert!(files.iter().all(|file| file.bytes() < 600_000));
    let expected: Vec<String> = (0..files.len())
        .map(|n| format!("part-00003-{query}-2-{n}.zstd.parquet"))
        .collect();
    assert_eq!(
        files.iter().map(|file| file.0.path.clone()).collect::<Vec<_>>(),
        expected
    );
    for file in &files {
        let meta = world
            .tables
            .bucket()
            .store()
            .head(&world.at.file(&file.0.path))
            .await
            .expect("it is there");
        assert_eq!(meta.size, file.bytes());
    }
}

#[tokio::test]
async fn no_rows_make_no_file() {
    let world = World::new();

    let files = world
        .files(&numbers(0), &WriteOptions::new(world.query(), 0, 0))
        .await
        .expect("a write");

    assert!(files.is_empty());
    assert!(names(&world).await.is_empty());
}

#[tokio::test]
async fn row_groups_are_bounded_in_rows_and_pages_have_bounds() {
    let world = World::new();
    let options = WriteOptions {
        rows_per_group: 50_000,
        ..WriteOptions::new(world.query(), 0, 0)
    };

    let files = world.files(&numbers(120_000), &options).await.expect("a write");

    let object = world
        .tables
        .bucket()
        .store()
        .get(&world.at.file(&files[0].0.path))
        .await
        .expect("it is there");
    let bytes = object.bytes().await.expect("it can be read");
    let reading = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = ArrowReaderMetadata::load(&bytes, reading).expect("a Parquet file");
    let groups: Vec<i64> = metadata
        .metadata()
        .row_groups()
        .iter()
        .map(|group| group.num_rows())
        .collect();
    assert_eq!(groups, [50_000, 50_000, 20_000]);
    let pages = &metadata.metadata().offset_index().expect("a page index")[0][0];
    assert!(
        pages.page_locations().len() >= 2,
        "{} pages",
        pages.page_locations().len()
    );
}

#[tokio::test]
async fn wide_rows_do_not_fill_the_memory_before_they_fill_a_group() {
    let world = World::new();
    // Values of 64 KiB that nothing compresses: 3,000 of them are 190 MiB.
    let rows = stream::iter(0..30).map(|step: u64| {
        let value = |row: u64| {
            let mut value = vec![0; 64 << 10];
            blake3::Hasher::new()
                .update(&(step * 100 + row).to_le_bytes())
                .finalize_xof()
                .fill(&mut value);
            value
        };
        Ok(batch(vec![(
            "value",
            Arc::new(BinaryArray::from_iter_values((0..100).map(value))) as ArrayRef,
        )]))
    });
    let schema = stored(&batch(vec![(
        "value",
        Arc::new(BinaryArray::from(vec![b"a".as_slice()])) as ArrayRef,
    )]));
    let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));

    let bucket = world.tables.bucket();
    let options = WriteOptions::new(world.query(), 0, 0);
    let files = write_files(bucket, &world.at, &schema, rows, &options)
        .await
        .expect("a write");

    assert_eq!(files.iter().map(WrittenFile::rows).sum::<u64>(), 3_000);
    let object = bucket
        .store()
        .get(&world.at.file(&files[0].0.path))
        .await
        .expect("it is there");
    let bytes = object.bytes().await.expect("it can be read");
    let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).expect("a Parquet file");
    assert!(metadata.metadata().num_row_groups() >= 2);
}

#[tokio::test]
async fn a_write_whose_rows_fail_says_why_and_leaves_no_table_file_behind() {
    let world = World::new();
    let rows = stream::iter([
        Ok(numbers(10)),
        Err(DataFusionError::Execution("division by zero in row 11".to_owned())),
    ]);
    let schema = stored(&numbers(1));
    let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));

    let options = WriteOptions::new(world.query(), 0, 0);
    let failure = write_files(world.tables.bucket(), &world.at, &schema, rows, &options).await;

    let Err(Error::Internal(source)) = failure else {
        panic!("{failure:?}")
    };
    assert!(
        source
            .downcast_ref::<DataFusionError>()
            .is_some_and(|error| error.to_string().contains("row 11"))
    );
    assert!(names(&world).await.is_empty());
}

#[tokio::test]
async fn the_bytes_that_are_paid_for_do_not_depend_on_how_the_rows_were_cut() {
    let rows = batch(vec![
        (
            "n",
            Arc::new(Int64Array::from_iter((0..50_000).map(|n| (n % 3 != 0).then_some(n)))) as ArrayRef,
        ),
        (
            "t",
            Arc::new(StringArray::from_iter(
                (0..50_000).map(|n| (n % 5 != 0).then(|| "x".repeat(n % 7))),
            )),
        ),
    ]);
    let expected: u64 = (0..50_000_u64)
        .map(|n| if n % 3 != 0 { 8 } else { 0 } + if n % 5 != 0 { 2 + n % 7 } else { 0 })
        .sum();

    let mut totals = Vec::new();
    for target_file_bytes in [1, 50_000, 128 << 20] {
        let world = World::new();
        let options = WriteOptions {
            target_file_bytes,
            ..WriteOptions::new(world.query(), 0, 0)
        };
        let files = world.files(&rows, &options).await.expect("a write");
        let schema = stored(&rows);
        world
            .tables
            .create(&world.at, &schema, files, &world.fresh_note())
            .await
            .expect("a commit");
        totals.push(
            world
                .elsewhere()
                .latest(&world.at)
                .await
                .expect("the table")
                .logical_bytes(),
        );
    }

    assert_eq!(totals, [expected; 3]);
}

#[tokio::test]
async fn a_written_file_travels_as_json() {
    let world = World::new();
    let files = world.file(&numbers(10)).await;

    let json = serde_json::to_string(&files).expect("JSON");
    let back: Vec<WrittenFile> = serde_json::from_str(&json).expect("the same");
    world
        .tables
        .create(&world.at, &stored(&numbers(1)), back, &world.fresh_note())
        .await
        .expect("a commit");

    let table = world.tables.latest(&world.at).await.expect("the table");
    assert_eq!((table.rows(), table.logical_bytes()), (10, 80));
}
