use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringViewArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Int64Type, Schema};
use futures::stream::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;

const INLINE_LIMIT: usize = 16 * 1024;

/// Numbers and long strings, rows `from..to`.
fn rows(from: i64, to: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter((from..to).map(|n| (n % 7 != 0).then_some(n))));
    let words: ArrayRef = Arc::new(StringViewArray::from_iter((from..to).map(|n| Some(noise(n)))));
    RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("word", words, true)]).expect("two columns")
}

/// Text that does not compress away.
fn noise(n: i64) -> String {
    blake3::hash(&n.to_le_bytes()).to_hex().to_string()
}

async fn written(store: &Arc<dyn ObjectStore>, schema: SchemaRef, batches: &[RecordBatch]) -> ResultManifest {
    let mut writer = ResultWriter::new(Arc::clone(store), Path::from("results/q"), schema, INLINE_LIMIT);
    for batch in batches {
        writer.push(batch).await.expect("room");
    }
    let manifest = writer.finish().await.expect("results");
    // What is kept is the manifest as JSON.
    let kept = serde_json::to_string(&manifest).expect("json");
    assert_eq!(serde_json::from_str::<ResultManifest>(&kept).expect("json"), manifest);
    manifest
}

async fn all(reader: &ResultReader) -> RecordBatch {
    let batches: Vec<_> = reader.stream().try_collect().await.expect("rows");
    concat_batches(&reader.schema(), &batches).expect("one schema")
}

async fn read(reader: &ResultReader, start: u64, max_rows: u64) -> Result<Vec<RecordBatch>> {
    reader.page(start, max_rows).try_collect().await
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

async fn objects(store: &Arc<dyn ObjectStore>) -> usize {
    store.list(None).count().await
}

#[tokio::test]
async fn small_results_cost_the_bucket_nothing() {
    let store = memory();
    let batch = rows(0, 10);

    let manifest = written(&store, batch.schema(), std::slice::from_ref(&batch)).await;
    let reader = ResultReader::open(Arc::clone(&store), &manifest).expect("a manifest");

    assert_eq!(all(&reader).await, batch);
    assert_eq!(objects(&store).await, 0);
    assert_eq!((manifest.rows, manifest.chunks.len()), (10, 1));
}

#[tokio::test]
async fn large_results_are_read_as_they_were_written() {
    let store = memory();
    let batches: Vec<_> = (0..40).map(|i| rows(i * 8_192, (i + 1) * 8_192)).collect();

    let manifest = written(&store, batches[0].schema(), &batches).await;
    let reader = ResultReader::open(Arc::clone(&store), &manifest).expect("a manifest");

    assert!(manifest.chunks.len() > 5, "{:?}", manifest.chunks);
    assert!(
        manifest.bytes > 16 * 1024 * 1024,
        "{} bytes are not uploaded in parts",
        manifest.bytes
    );
    assert_eq!(
        store.head(&Path::from("results/q")).await.expect("an object").size,
        manifest.bytes
    );
    assert_eq!(all(&reader).await, rows(0, 40 * 8_192));
}

#[tokio::test]
async fn a_page_may_begin_and_end_anywhere() {
    let store = memory();
    let batches: Vec<_> = (0..20).map(|i| rows(i * 5_000, (i + 1) * 5_000)).collect();
    let manifest = written(&store, batches[0].schema(), &batches).await;
    let reader = ResultReader::open(store, &manifest).expect("a manifest");
    let border = manifest.chunks[0].rows as i64;
    assert!(manifest.chunks.len() > 2);

    for (start, max_rows) in [
        (0, 1),
        (0, 100_000),
        (border - 1, 1),
        (border, 1),
        (border - 3, 7),
        (4_999, 2),
        (99_999, 10),
        (17, 60_000),
    ] {
        let page = read(&reader, start as u64, max_rows as u64).await.expect("a page");
        let page = concat_batches(&reader.schema(), &page).expect("one schema");
        assert_eq!(
            page,
            rows(start, (start + max_rows).min(100_000)),
            "{max_rows} rows from {start}"
        );
    }
    for (start, max_rows) in [(100_000, 1), (u64::MAX, u64::MAX), (5, 0)] {
        assert_eq!(read(&reader, start, max_rows).await.expect("a page"), []);
    }
}

#[tokio::test]
async fn no_rows_still_have_columns() {
    let store = memory();
    let schema = rows(0, 0).schema();

    for batches in [vec![], vec![rows(0, 0)]] {
        let manifest = written(&store, Arc::clone(&schema), &batches).await;
        let reader = ResultReader::open(Arc::clone(&store), &manifest).expect("a manifest");

        assert_eq!(reader.schema(), schema);
        assert_eq!((manifest.rows, manifest.bytes), (0, 0));
        assert_eq!(all(&reader).await.num_rows(), 0);
        assert_eq!(read(&reader, 0, 10).await.expect("a page"), []);
    }
}

#[tokio::test]
async fn rows_without_columns_are_counted() {
    let schema = Arc::new(Schema::empty());
    let counted = |rows| {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&schema), vec![], &options).expect("no column is wrong")
    };

    let manifest = written(&memory(), Arc::clone(&schema), &[counted(3), counted(200_000)]).await;
    let reader = ResultReader::open(memory(), &manifest).expect("a manifest");

    let batches: Vec<_> = reader.stream().try_collect().await.expect("rows");
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 200_003);
    let page = read(&reader, 1, 4).await.expect("a page");
    assert_eq!(page.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
}

#[tokio::test]
async fn rows_that_passed_a_filter_leave_the_others_behind() {
    let few = rows(0, 100_000).slice(50_000, 3);

    let manifest = written(&memory(), few.schema(), std::slice::from_ref(&few)).await;
    let reader = ResultReader::open(memory(), &manifest).expect("a manifest");

    assert!(manifest.bytes < 4_096, "three rows take {} bytes", manifest.bytes);
    assert_eq!(all(&reader).await, few);
}

#[tokio::test]
async fn nested_rows_and_metadata_survive() {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let field = Field::new("lists", lists.data_type().clone(), true);
    let schema = Schema::new(vec![field]).with_metadata([("unit".to_owned(), "€".to_owned())].into());
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(lists)]).expect("one column");

    let manifest = written(&memory(), batch.schema(), std::slice::from_ref(&batch)).await;
    let reader = ResultReader::open(memory(), &manifest).expect("a manifest");

    assert_eq!(all(&reader).await, batch);
    assert_eq!(reader.schema(), batch.schema());
}

#[tokio::test]
async fn results_that_were_removed_are_not_found() {
    let store = memory();
    let batch = rows(0, 10_000);
    let manifest = written(&store, batch.schema(), &[batch]).await;
    let reader = ResultReader::open(Arc::clone(&store), &manifest).expect("a manifest");
    store.delete(&Path::from("results/q")).await.expect("it was there");

    let error = read(&reader, 0, 1).await.expect_err("gone");

    assert!(matches!(&error, Error::NotFound(_)), "{error}");
    assert_eq!(error.to_string(), "these results are not kept any more");
}

#[tokio::test]
async fn results_that_are_cut_short_are_not_taken_for_whole() {
    let store = memory();
    let batch = rows(0, 10_000);
    let manifest = written(&store, batch.schema(), &[batch]).await;
    let path = Path::from("results/q");
    let bytes = store.get(&path).await.expect("an object").bytes().await.expect("bytes");
    store
        .put(&path, bytes.slice(..bytes.len() / 2).into())
        .await
        .expect("written");

    let reader = ResultReader::open(store, &manifest).expect("a manifest");

    assert!(read(&reader, 0, 10_000).await.is_err());
    let mut cut = manifest.clone();
    (cut.inline, cut.object) = (Some(String::new()), None);
    let cut_reader = ResultReader::open(memory(), &cut).expect("a manifest");
    assert!(read(&cut_reader, 0, 1).await.is_err());
    cut.inline = None;
    assert!(
        ResultReader::open(memory(), &cut).is_err(),
        "it says nowhere where the rows are"
    );
}

#[tokio::test]
async fn an_aborted_writer_leaves_nothing_behind() {
    let store = memory();
    let batch = rows(0, 60_000);
    let mut writer = ResultWriter::new(
        Arc::clone(&store),
        Path::from("results/q"),
        batch.schema(),
        INLINE_LIMIT,
    );
    for _ in 0..8 {
        writer.push(&batch).await.expect("room");
    }

    writer.abort().await.expect("aborted");

    assert_eq!(objects(&store).await, 0);
}
