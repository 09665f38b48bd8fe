//! Workers behind a network that is slow, loses packets, or is cut: the rows are right, and what is cut off is done by others.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::host::Host;
use crate::harness::proxy::{Proxy, Weather};
use crate::{Warehouse, eventually};

/// Two workers for every query that reads a MiB, one of them behind a network.
const SETTINGS: &str = "[workers]\nsource = \"registered\"\nmax = 4\nthreads = 1\n\
    [queries]\nworkers_max = 2\nmib_per_worker = 1\n[upkeep]\nevery_s = 1\nlease_s = 30\n";

const BY_GROUP: &str = "select g, count(*) as n, sum(n) as s from s.numbers group by g order by g limit 3";

/// A gateway, and two workers that reach each other and it through networks.
struct House {
    warehouse: Warehouse,
    networks: [Proxy; 2],
    _hosts: [Host; 2],
}

impl House {
    async fn start() -> Self {
        let warehouse = Warehouse::start_with(SETTINGS).await;
        let networks = [Proxy::start().await, Proxy::start().await];
        let hosts = [
            warehouse.host_behind(&networks[0]).await,
            warehouse.host_behind(&networks[1]).await,
        ];
        warehouse.dataset("s").await;
        // Two files, so that each of them has one to read.
        let rows = "select value as n, value % 1000 as g, cast(value as varchar) as t from generate_series";
        warehouse
            .sql(&format!("create table s.numbers as {rows}(1, 300000)"))
            .await;
        warehouse
            .sql(&format!("insert into s.numbers {rows}(300001, 600000)"))
            .await;
        Self {
            warehouse,
            networks,
            _hosts: hosts,
        }
    }

    fn weather(&self, weather: Weather) {
        self.networks.iter().for_each(|network| network.set(weather));
    }
}

#[tokio::test]
async fn a_slow_network_and_one_that_loses_packets_change_no_row() {
    let house = House::start().await;
    let fair = house.warehouse.sql(BY_GROUP).await;
    assert_eq!(fair.rows[0], [json!(0), json!(600), json!(180_300_000)]);

    for weather in [Weather::Slow(Duration::from_millis(40)), Weather::Lossy] {
        house.weather(weather);
        assert_eq!(house.warehouse.sql(BY_GROUP).await.rows, fair.rows, "{weather:?}");
        let copied = house
            .warehouse
            .sql("create table s.copy as select * from s.numbers")
            .await;
        assert_eq!(copied, json!([[600_000]]), "{weather:?}");
        house.warehouse.sql("drop table s.copy").await;
    }
}

#[tokio::test]
async fn a_worker_that_is_cut_off_is_noticed_and_its_query_done_by_another() {
    let house = House::start().await;
    let heavy =
        "select count(*) as pairs from s.numbers a join s.numbers b on a.g = b.g where a.n + b.n > 7 and a.g < 500";
    let id = house.warehouse.send(heavy).await;
    eventually("it runs on both", async || {
        let query = house
            .warehouse
            .get(&format!("/v1/queries/{id}"))
            .await
            .expect("the query");
        query["progress"]["phase"] == "running" && query["progress"]["tasks"].as_u64() > Some(1)
    })
    .await;

    house.networks[1].set(Weather::Cut);
    let cut_at = Instant::now();
    let ended = house.warehouse.ended(&id).await;

    assert_eq!(ended["state"], "done", "{ended}");
    assert_eq!(house.warehouse.bills_of(&id).await.len(), 1);
    let rows = house
        .warehouse
        .get(&format!("/v1/queries/{id}/results"))
        .await
        .expect("its rows");
    assert_eq!(rows["rows"], json!([{ "pairs": 179_999_997 }]));

    // Half a minute is longer than anybody waits for a sign of life. Who is left answers.
    while cut_at.elapsed() < Duration::from_secs(30) {
        assert_eq!(
            house.warehouse.sql("select sum(n) from s.numbers").await,
            json!([[180_000_300_000_u64]])
        );
    }

    // When the network is there again, so is the worker, or another in its place.
    house.networks[1].set(Weather::Fair);
    assert_eq!(
        house.warehouse.sql("select count(*) from s.numbers").await,
        json!([[600_000]])
    );
}
