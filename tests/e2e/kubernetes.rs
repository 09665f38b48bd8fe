//! Workers that Kubernetes starts: none while nobody asks, as many as are wanted, and none again. The API server is simulated;
//! the workers are real.

use serde_json::json;
use tempfile::TempDir;

use crate::harness::pods::Pods;
use crate::{Warehouse, eventually};

const SETTINGS: &str = "[queries]\nworkers_max = 2\nmib_per_worker = 1\n\
    [workers]\nsource = \"kubernetes\"\nthreads = 1\nidle_s = 1\nmax_per_project = 2\n\
    [workers.kubernetes]\nmax = 2\n";

/// Takes a worker for some seconds.
const HEAVY: &str =
    "select count(*) from generate_series(1, 60000) a, generate_series(1, 20000) b where a.value < b.value";

async fn warehouse_with_pods(folder: &TempDir) -> (Warehouse, Pods) {
    let pods = Pods::start(folder.path()).await;
    let warehouse = Warehouse::start_with(&format!("{SETTINGS}{}", pods.kubeconfig())).await;
    pods.run(warehouse.data(), &warehouse.data().join("wasmhouse.toml"));
    (warehouse, pods)
}

#[tokio::test]
async fn there_are_no_pods_while_nobody_asks_and_as_many_as_are_wanted_when_somebody_does() {
    let folder = TempDir::new().expect("a folder");
    let (warehouse, pods) = warehouse_with_pods(&folder).await;
    assert_eq!(pods.wanted(), 0);

    assert_eq!(warehouse.sql("select 6 * 7").await, json!([[42]]));

    assert_eq!(pods.most(), 1, "one query, one pod");
    eventually("the pod that nobody needs is gone", async || pods.wanted() == 0).await;
    // And there is one again for whoever comes then.
    assert_eq!(warehouse.sql("select 6 * 8").await, json!([[48]]));
}

#[tokio::test]
async fn there_are_never_more_pods_than_may_be_and_every_query_has_its_turn() {
    let folder = TempDir::new().expect("a folder");
    let (warehouse, pods) = warehouse_with_pods(&folder).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(warehouse.send(HEAVY).await);
    }

    for id in &ids {
        assert_eq!(warehouse.ended(id).await["state"], "done");
    }

    assert_eq!(pods.most(), 2);
    eventually("all pods are gone", async || pods.wanted() == 0).await;
}

#[tokio::test]
async fn a_large_query_waits_for_the_pods_that_it_deserves() {
    let folder = TempDir::new().expect("a folder");
    let (warehouse, pods) = warehouse_with_pods(&folder).await;
    warehouse.sql("create schema d").await;
    warehouse
        .sql("create table d.t as select value as v, value % 7 as k from generate_series(1, 400000)")
        .await;
    eventually("its pod is gone", async || pods.wanted() == 0).await;

    let id = warehouse
        .send("select k, count(*) as n from d.t group by k order by k")
        .await;

    assert_eq!(warehouse.ended(&id).await["state"], "done");
    assert_eq!(pods.most(), 2, "6 MB deserve two workers");
    let rows = warehouse.get(&format!("/v1/queries/{id}/results")).await.expect("rows");
    assert_eq!(rows["rows"][0], json!({ "k": 0, "n": 57142 }));
}

#[tokio::test]
async fn a_workload_that_is_not_there_is_told_at_the_start() {
    let folder = TempDir::new().expect("a folder");
    let pods = Pods::start(folder.path()).await;
    let settings = format!("{SETTINGS}workload = \"deployment/another\"\n{}", pods.kubeconfig());

    let told = Warehouse::refused_with(&settings).await;

    assert!(
        told.contains("the workload deployment/another of Kubernetes cannot be read"),
        "{told}"
    );
}
