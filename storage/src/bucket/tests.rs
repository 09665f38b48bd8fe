use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::join_all;
use object_store::buffered::BufWriter;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::clock::Clock;
use crate::tables::harness::{Careless, memory, open};

fn directory() -> (tempfile::TempDir, Bucket) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = Url::from_directory_path(directory.path()).expect("an absolute path");
    let bucket = open(url.as_str());
    (directory, bucket)
}

async fn read(bucket: &Bucket, path: &Path) -> Vec<u8> {
    bucket
        .store()
        .get(path)
        .await
        .expect("it is there")
        .bytes()
        .await
        .expect("it can be read")
        .to_vec()
}

async fn names(bucket: &Bucket) -> Vec<String> {
    let mut names: Vec<String> = bucket
        .store()
        .list(None)
        .map_ok(|object| object.location.to_string())
        .try_collect()
        .await
        .expect("a list");
    names.sort();
    names
}

#[tokio::test]
async fn a_bucket_that_refuses_to_create_a_key_twice_passes_the_self_test_and_keeps_nothing_of_it() {
    let (_directory, local) = directory();

    for bucket in [memory(), local] {
        bucket.self_test().await.expect("a good store");
        assert!(names(&bucket).await.is_empty());
    }
}

#[tokio::test]
async fn a_store_that_overwrites_instead_is_refused_with_a_reason() {
    let bucket = memory();
    let careless = bucket.with_store(Arc::new(Careless(bucket.store())));

    let refusal = careless.self_test().await.expect_err("it would lose commits");

    assert!(
        matches!(&refusal, Error::Invalid(message) if message.contains("If-None-Match")),
        "{refusal}"
    );
    assert!(names(&careless).await.is_empty());
}

#[tokio::test]
async fn what_was_put_in_a_local_bucket_is_there_when_it_is_opened_again() {
    let (directory, bucket) = directory();
    let small = Path::from("a/b/small");
    let large = Path::from("a/c/large");
    bucket.store().put(&small, "one".into()).await.expect("a put");
    let mut upload = BufWriter::with_capacity(bucket.store(), large.clone(), 4);
    upload.write_all(b"in several parts").await.expect("an upload");
    upload.shutdown().await.expect("an upload");
    bucket
        .store()
        .copy(&small, &Path::from("a/copy"))
        .await
        .expect("a copy");
    bucket
        .store()
        .rename(&Path::from("a/copy"), &Path::from("d/moved"))
        .await
        .expect("a rename");

    drop(bucket);
    let again = open(Url::from_directory_path(directory.path()).expect("a path").as_str());

    assert_eq!(names(&again).await, ["a/b/small", "a/c/large", "d/moved"]);
    assert_eq!(read(&again, &small).await, b"one");
    assert_eq!(read(&again, &large).await, b"in several parts");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_create_one_key_on_a_local_disk_exactly_one_succeeds() {
    let (directory, bucket) = directory();
    let key = Path::from("log/0.json");

    let attempts = (0..16).map(|writer: u8| {
        let (store, key) = (bucket.store(), key.clone());
        tokio::spawn(async move { store.put_opts(&key, vec![writer].into(), PutMode::Create.into()).await })
    });
    let answers: Vec<_> = join_all(attempts)
        .await
        .into_iter()
        .map(|answer| answer.expect("no panic"))
        .collect();

    let winner = answers.iter().position(Result::is_ok).expect("a winner");
    assert_eq!(read(&bucket, &key).await, [winner as u8]);
    let losers = answers
        .iter()
        .filter(|answer| matches!(answer, Err(object_store::Error::AlreadyExists { .. })));
    assert_eq!(losers.count(), 15);
    // Nothing staged is left behind.
    let left: Vec<_> = std::fs::read_dir(directory.path().join("log"))
        .expect("a directory")
        .collect();
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn a_put_on_a_local_disk_replaces_what_was_there() {
    let (_directory, bucket) = directory();
    let key = Path::from("key");

    bucket
        .store()
        .put(&key, "first, and longer".into())
        .await
        .expect("a put");
    bucket.store().put(&key, "second".into()).await.expect("a put");

    assert_eq!(read(&bucket, &key).await, b"second");
}

#[test]
fn an_outsider_finds_a_table_where_the_public_url_says() {
    let (directory, bucket) = directory();
    let project = "acme".parse().expect("a project");
    let name = "sales.orders".parse().expect("a name");
    let root = std::fs::canonicalize(directory.path()).expect("a directory");

    let first = Bucket::table_path(&project, &name, 1);
    let third = Bucket::table_path(&project, &name, 3);

    assert_eq!(
        bucket.public_url(&first.path()),
        format!("{}/tables/acme/sales/orders", root.display())
    );
    assert_eq!(
        bucket.public_url(&third.path()),
        format!("{}/tables/acme/sales/orders.3", root.display())
    );
    assert_eq!(first.url().as_str(), "wh://w/tables/acme/sales/orders/");

    let config = |url: &str, options: &[(&str, &str)]| BucketConfig {
        url: url.parse().expect("a URL"),
        options: options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
    };
    let remote = Bucket::open(&config("s3://lake/warehouse/", &[("aws_region", "eu-west-1")])).expect("it opens");
    assert_eq!(
        remote.public_url(&first.path()),
        "s3://lake/warehouse/tables/acme/sales/orders"
    );
}

#[test]
fn a_misspelt_option_is_refused_before_it_is_missed() {
    let options = BTreeMap::from([("aws_regoin".to_owned(), "eu-west-1".to_owned())]);
    let config = BucketConfig {
        url: "s3://lake/".parse().expect("a URL"),
        options,
    };

    let refusal = Bucket::open(&config).expect_err("there is no such option");

    assert_eq!(
        refusal.to_string(),
        "'aws_regoin' is not an option of this kind of bucket"
    );
}

#[test]
fn secrets_of_a_bucket_are_not_printed() {
    let options = BTreeMap::from([("aws_secret_access_key".to_owned(), "hush".to_owned())]);
    let config = BucketConfig {
        url: "s3://lake/".parse().expect("a URL"),
        options,
    };

    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn an_export_stays_below_its_project() {
    let project = "acme".parse().expect("a project");
    let query: QueryId = "q_0198c0de000070008000000000000001".parse().expect("a query id");

    let good = Bucket::export_path(&project, "daily/2026-01-31_v1.2", &query).expect("a good name");
    assert_eq!(
        good.as_ref(),
        "exports/acme/daily/2026-01-31_v1.2/q_0198c0de000070008000000000000001"
    );

    for bad in [
        "",
        "/",
        "../other",
        "a/../../b",
        "a//b",
        ".",
        "a/",
        "/abs",
        "a b",
        "a\0b",
        "ä",
        &"a".repeat(600),
    ] {
        assert!(Bucket::export_path(&project, bad, &query).is_err(), "{bad:?} was taken");
    }
}

#[tokio::test]
async fn a_local_bucket_lists_by_name_however_the_disk_lists() {
    let (_directory, bucket) = directory();
    let store = bucket.store();
    let path = |number: u32| Path::from(format!("log/{number:020}.json"));
    // In this order, so that the order of creation is not that of the names.
    for number in [7, 3, 11, 0, 42, 5, 19, 1] {
        store
            .put(&path(number), "{}".into())
            .await
            .expect("the object is written");
    }

    let folder = Path::from("log");
    let all: Vec<Path> = store
        .list(Some(&folder))
        .map_ok(|object| object.location)
        .try_collect()
        .await
        .expect("a list");
    let after = store.list_with_offset(Some(&folder), &path(5));
    let after: Vec<Path> = after
        .map_ok(|object| object.location)
        .try_collect()
        .await
        .expect("a list");

    assert_eq!(all, [0, 1, 3, 5, 7, 11, 19, 42].map(path));
    assert_eq!(after, [7, 11, 19, 42].map(path));
}

#[tokio::test]
async fn drafts_of_writes_that_never_ended_are_removed_once_they_are_old() {
    let (directory, bucket) = directory();
    let kept = Path::from("tables/acme/shop/sales/part.parquet");
    bucket.store().put(&kept, "rows".into()).await.expect("a put");
    let folder = directory.path().join("tables/acme/shop/sales");
    for name in [
        "part.parquet#1",
        "other.parquet#18446744073709551615",
        "name#not-a-draft",
    ] {
        std::fs::write(folder.join(name), "half").expect("a file");
    }
    let in_an_hour = Clock::System.now().plus(Duration::from_secs(3_600));

    let young = bucket.remove_drafts(Timestamp::from_micros(0)).await;
    let old = bucket.remove_drafts(in_an_hour).await;

    assert_eq!((young.expect("none"), old.expect("two")), (0, 2));
    assert_eq!(read(&bucket, &kept).await, b"rows");
    assert!(folder.join("name#not-a-draft").exists());
}
