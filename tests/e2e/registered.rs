//! Workers that run by themselves and register: a gateway has those that are there, and shares them with its neighbours.

use serde_json::json;

use tempfile::TempDir;

use crate::harness::certificates::Certificates;
use crate::harness::host::Host;
use crate::harness::postgres::new_catalog;
use crate::{Warehouse, eventually, is_alive};

/// A gateway that starts no workers.
const REGISTERED: &str =
    "[workers]\nsource = \"registered\"\nmax = 4\nthreads = 1\n[upkeep]\nevery_s = 1\nlease_s = 2\n";

/// Takes long enough for things to happen meanwhile, and ends in some seconds.
const HEAVY: &str =
    "select count(*) from generate_series(1, 60000) a, generate_series(1, 30000) b where a.value < b.value";

/// What [`HEAVY`] counts.
const HEAVY_COUNT: u64 = 29_999 * 30_000 / 2;

/// Takes longer than any test.
const LONG: &str =
    "select count(*) from generate_series(1, 90000) a, generate_series(1, 90000) b where a.value <> b.value";

async fn phase(warehouse: &Warehouse, id: &str) -> String {
    let query = warehouse.get(&format!("/v1/queries/{id}")).await.expect("the query");
    query["progress"]["phase"].as_str().unwrap_or_default().to_owned()
}

async fn runs(warehouse: &Warehouse, id: &str) {
    eventually("it runs", async || phase(warehouse, id).await == "running").await;
}

/// The worker of a host, once it has been started.
async fn worker_of(host: &Host) -> u32 {
    eventually("the host has a worker", async || host.worker_pid().is_some()).await;
    host.worker_pid().expect("it was there just now")
}

#[tokio::test]
async fn a_query_waits_for_the_first_worker_and_says_so() {
    let warehouse = Warehouse::start_with(REGISTERED).await;
    assert!(
        warehouse.worker_pids().is_empty(),
        "the gateway has no workers of its own"
    );
    let id = warehouse.send("select 6 * 7 as answer").await;
    let query = warehouse.get(&format!("/v1/queries/{id}")).await.expect("the query");
    assert_eq!(
        (&query["state"], &query["progress"]["phase"]),
        (&json!("pending"), &json!("queued"))
    );

    let host = warehouse.host().await;

    assert_eq!(warehouse.ended(&id).await["state"], "done");
    let rows = warehouse.get(&format!("/v1/queries/{id}/results")).await.expect("rows");
    assert_eq!(rows["rows"], json!([{ "answer": 42 }]));
    // Its worker is the project's now, and answers the next query, too.
    let worker = worker_of(&host).await;
    assert_eq!(warehouse.sql("select 1").await, json!([[1]]));
    assert_eq!(host.worker_pid(), Some(worker));
}

#[tokio::test]
async fn a_query_that_finds_no_worker_in_its_time_says_that_and_costs_nothing() {
    let settings = format!("{REGISTERED}[queries]\nqueue_timeout_ms = 300\n");
    let warehouse = Warehouse::start_with(&settings).await;

    let error = warehouse.refused("select 1").await;
    assert_eq!(error.code, "busy", "{error}");
    assert!(error.message.contains("no worker became free in time"), "{error}");
    let in_time = warehouse.ask(json!({ "sql": "select 1", "timeout_ms": 100 })).await;
    let error = in_time.expect_err("there is no worker");
    assert_eq!(error.code, "timeout", "{error}");
    assert!(error.message.contains("no worker became free for the query"), "{error}");
    assert_eq!(warehouse.bills().await.len(), 0);
}

#[tokio::test]
async fn another_project_has_another_process() {
    let warehouse = Warehouse::start_with(REGISTERED).await;
    let other = warehouse.project("other").await;
    let host = warehouse.host().await;
    assert_eq!(warehouse.sql("select 1").await, json!([[1]]));
    let first = worker_of(&host).await;

    assert_eq!(other.sql("select 2").await, json!([[2]]));

    assert!(!is_alive(first), "the worker of the first project has ended");
    assert_ne!(worker_of(&host).await, first);
    assert_eq!(warehouse.sql("select 3").await, json!([[3]]));
}

#[tokio::test]
async fn a_query_whose_machine_is_gone_is_done_on_another() {
    let warehouse = Warehouse::start_with(REGISTERED).await;
    let host = warehouse.host().await;
    let id = warehouse.send(HEAVY).await;
    runs(&warehouse, &id).await;
    let worker = worker_of(&host).await;

    host.kill().await;
    let second = warehouse.host().await;

    assert_eq!(warehouse.ended(&id).await["state"], "done");
    let rows = warehouse.get(&format!("/v1/queries/{id}/results")).await.expect("rows");
    assert_eq!(rows["rows"][0]["count(*)"], json!(HEAVY_COUNT));
    assert_eq!(warehouse.bills_of(&id).await.len(), 1);
    eventually("the worker ended with its host", async || !is_alive(worker)).await;
    assert!(second.stop().await);
}

#[tokio::test]
async fn a_worker_that_dies_is_started_again_and_its_query_done_again() {
    let warehouse = Warehouse::start_with(REGISTERED).await;
    let host = warehouse.host().await;
    let id = warehouse.send(HEAVY).await;
    runs(&warehouse, &id).await;

    host.kill_worker();

    assert_eq!(warehouse.ended(&id).await["state"], "done");
    assert_eq!(warehouse.bills_of(&id).await.len(), 1);
}

#[tokio::test]
async fn a_host_that_is_told_to_stop_lets_its_query_end_and_takes_no_other() {
    let warehouse = Warehouse::start_with(REGISTERED).await;
    let host = warehouse.host().await;
    let running = warehouse.send(HEAVY).await;
    runs(&warehouse, &running).await;

    host.ask_to_stop();
    let waiting = warehouse.send("select 1").await;
    let ended = warehouse.ended(&running).await;

    assert_eq!(ended["state"], "done", "{ended}");
    assert_eq!(phase(&warehouse, &waiting).await, "queued");
    assert!(host.stop().await, "it ended well");
    let _second = warehouse.host().await;
    assert_eq!(warehouse.ended(&waiting).await["state"], "done");
}

#[tokio::test]
async fn a_query_that_is_cancelled_leaves_no_process_behind() {
    let warehouse = Warehouse::start_with(REGISTERED).await;
    let host = warehouse.host().await;
    let id = warehouse.send(LONG).await;
    runs(&warehouse, &id).await;
    let worker = worker_of(&host).await;

    warehouse
        .post(&format!("/v1/queries/{id}/cancel"), json!({}))
        .await
        .expect("cancelled");

    assert_eq!(warehouse.ended(&id).await["state"], "cancelled");
    eventually("its worker has ended", async || !is_alive(worker)).await;
    assert_eq!(warehouse.sql("select 1").await, json!([[1]]));
}

#[tokio::test]
async fn a_query_that_fewer_partitions_would_not_help_is_out_of_memory_once() {
    let settings = REGISTERED.replace("threads = 1", "threads = 1\nmemory_mib = 64\nprocess_mib = 256");
    let warehouse = Warehouse::start_with(&settings).await;
    let _host = warehouse.host().await;

    let error = warehouse
        .refused("select length(repeat('x', 1000000000)) from generate_series(1, 2)")
        .await;

    assert_eq!(error.code, "out_of_memory", "{error}");
    assert_eq!(warehouse.counted("wasmhouse_attempts_total").await, 1);
    assert_eq!(warehouse.sql("select 1").await, json!([[1]]));
}

#[tokio::test]
async fn a_gateway_that_dies_leaves_no_worker_busy() {
    let mut warehouse = Warehouse::start_with(REGISTERED).await;
    let host = warehouse.host().await;
    let id = warehouse.send(LONG).await;
    runs(&warehouse, &id).await;
    let worker = worker_of(&host).await;

    warehouse.kill().await;
    warehouse.restart().await;

    // Its lease lapses, and its host ends what nobody waits for any more.
    assert_eq!(warehouse.sql("select 1").await, json!([[1]]));
    assert!(!is_alive(worker));
    assert_eq!(warehouse.ended(&id).await["state"], "lost");
    assert_eq!(warehouse.bills_of(&id).await.len(), 0);
}

#[tokio::test]
async fn a_query_has_several_registered_workers_as_it_has_several_children() {
    let settings = format!("{REGISTERED}[queries]\nworkers_max = 3\nmib_per_worker = 1\n");
    let warehouse = Warehouse::start_with(&settings).await;
    let hosts = [warehouse.host().await, warehouse.host().await, warehouse.host().await];
    let workers = || hosts.each_ref().map(|host| host.worker_pid());
    let other = warehouse.project("other").await;
    warehouse.dataset("s").await;
    warehouse
        .sql("create table s.numbers as select value as n, value % 1000 as g from generate_series(1, 400000)")
        .await;

    let before = workers();
    let groups = warehouse
        .sql("select g, count(*), sum(n) from s.numbers group by g order by g limit 2")
        .await;

    // All three are the project's now: for another one, a process has to end.
    assert_eq!(other.sql("select 1").await, json!([[1]]));
    let changed = before
        .iter()
        .zip(workers())
        .filter(|(before, now)| **before != *now)
        .count();
    assert_eq!(changed, 1, "{before:?}");
    assert_eq!(groups, json!([[0, 400, 80_200_000], [1, 400, 79_800_400]]));
}

#[tokio::test]
async fn gateways_share_workers_and_each_does_what_another_has_left() {
    let Some(catalog) = new_catalog().await else { return };
    let bucket = tempfile::tempdir().expect("a folder");
    let bucket = format!("file://{}/", bucket.path().display());
    let settings = format!("[catalog]\nurl = \"{catalog}\"\n[bucket]\nurl = \"{bucket}\"\n{REGISTERED}");
    let mut first = Warehouse::start_with(&settings).await;
    let second = Warehouse::beside(&first).await;
    let host = first.host().await;

    assert_eq!(first.sql("select 1").await, json!([[1]]));
    let worker = worker_of(&host).await;
    assert_eq!(second.sql("select 2").await, json!([[2]]));
    assert_eq!(
        host.worker_pid(),
        Some(worker),
        "it is the project's, whichever gateway asks"
    );

    // One waits for what the other has.
    let running = first.send(HEAVY).await;
    runs(&first, &running).await;
    let waiting = second.send("select 3").await;
    assert_eq!(phase(&second, &waiting).await, "queued");
    assert_eq!(second.ended(&waiting).await["state"], "done");
    assert_eq!(first.ended(&running).await["state"], "done");

    // The worker of a gateway that is gone is the other's.
    let lost = first.send(LONG).await;
    runs(&first, &lost).await;
    first.kill().await;
    assert_eq!(second.sql("select 4").await, json!([[4]]));
    assert_eq!(second.ended(&lost).await["state"], "lost");
}

#[tokio::test]
async fn a_worker_that_cannot_be_reached_says_so_at_its_start() {
    let warehouse = Warehouse::start_with(REGISTERED).await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let taken = taken.local_addr().map(|address| (taken, address.to_string()));
    let (_taken, address) = taken.expect("an address");

    for (listen, says) in [
        (address.as_str(), "cannot listen on 127.0.0.1:"),
        ("0.0.0.0:0", "--advertise"),
    ] {
        let output = warehouse.command(&["worker", "--listen", listen]).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(says), "{told}");
    }
}

#[tokio::test]
async fn gateways_and_workers_that_have_certificates_talk_to_nobody_else() {
    let folder = TempDir::new().expect("a folder");
    let settings = |certificates: &Certificates| {
        let queries = "[queries]\nworkers_max = 2\nmib_per_worker = 1\nqueue_timeout_ms = 2000\n";
        format!("{REGISTERED}{queries}{}", certificates.settings())
    };
    let mut warehouse = Warehouse::start_with(&settings(&Certificates::new(folder.path()))).await;
    let (first, _second) = (warehouse.host().await, warehouse.host().await);
    assert!(first.url().starts_with("https://127.0.0.1:"), "{}", first.url());

    // Its head and the other worker talk to each other, too.
    warehouse.sql("create schema s").await;
    let rows = "select value as n, value % 7 as k from generate_series(1, 400000)";
    warehouse.sql(&format!("create table s.numbers as {rows}")).await;
    let counted = warehouse
        .sql("select k, count(*) as n from s.numbers group by k order by k")
        .await;
    assert_eq!(counted.rows[0], [json!(0), json!(57142)]);

    let stranger = reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .build()
        .expect("a client");
    let answer = stranger.get(first.url()).send().await;
    assert!(answer.is_err(), "who shows no certificate is not heard: {answer:?}");
    let plain = first.url().replace("https://", "http://");
    assert!(reqwest::get(plain).await.is_err(), "nothing is said in the clear");

    // A gateway of another authority finds no worker that it believes.
    let others = TempDir::new().expect("a folder");
    warehouse.configure(&settings(&Certificates::new(others.path())));
    warehouse.restart().await;
    let error = warehouse.refused("select count(*) from s.numbers").await;
    assert_eq!(error.code, "busy", "{error}");
}
