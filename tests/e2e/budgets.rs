//! Budgets: what a project may spend in a day or a month, in all, by somebody, or under a label.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{Caller, SALES, Warehouse};

/// Each query with an answer costs a quarter.
const A_QUARTER: &str = "[[billing.prices]]\nversion = \"1\"\nfrom = \"1970-01-01T00:00:00Z\"\ncurrency = \"USD\"\n\
    per_tb_processed = \"5\"\nper_tb_loaded = \"0\"\nper_query_at_least = \"0.25\"\n";

async fn shop_with(settings: &str) -> Warehouse {
    let warehouse = Warehouse::start_with(&format!("{settings}{A_QUARTER}")).await;
    warehouse.dataset("shop").await;
    warehouse.load_csv("shop.sales", SALES).await;
    warehouse
}

async fn set(owner: &Caller, scope: &str, period: &str, amount: &str) {
    let budget = json!({ "scope": scope, "period": period, "amount": amount });
    let request = owner.request(Method::PUT, "/v1/budgets").json(&budget);
    assert_eq!(request.send().await.expect("an answer").status(), 204, "{budget}");
}

/// The budget of this scope, as it is listed.
async fn listed(owner: &Caller, scope: &str) -> Value {
    let list = owner.get("/v1/budgets").await.expect("a list");
    let budgets = list["budgets"].as_array().expect("budgets").iter();
    let mut of_scope = budgets.filter(|budget| budget["scope"] == scope);
    of_scope.next().cloned().unwrap_or_else(|| panic!("{scope}: {list}"))
}

#[tokio::test]
async fn a_budget_warns_and_then_stops_whom_it_is_about_and_nobody_else() {
    let warehouse = shop_with("").await;
    let ada = warehouse.somebody("ada", &["viewer", "query_runner"]).await;
    let sql = "select sum(pieces) from shop.sales";
    set(&warehouse, "user:ada", "day", "0.6").await;

    let first = ada.sql(sql).await;
    let second = ada.sql(sql).await;
    let refused = ada.refused(sql).await;

    assert_eq!(first.headers.get("wasmhouse-budget"), None);
    let warning = second.headers["wasmhouse-budget"].to_str().expect("a text");
    assert!(
        warning.starts_with("user:ada, day: 0.5") && warning.ends_with(" of 0.6"),
        "{warning}"
    );
    assert_eq!((refused.status, refused.code.as_str()), (422, "over_budget"));
    assert!(
        refused
            .message
            .contains("of the budget of user:ada for this day, 0.6, only 0.1 is left"),
        "{refused}"
    );
    assert!(
        refused.message.contains("nothing was read; it begins again at 20"),
        "{refused}"
    );
    // Others go on, and what costs nothing does.
    warehouse.sql(sql).await;
    ada.dry_run(sql).await.expect("a quote is free");
    let budget = listed(&warehouse, "user:ada").await;
    assert!(
        budget["spent"].as_str().is_some_and(|spent| spent.starts_with("0.5")),
        "{budget}"
    );
    assert_eq!(
        (&budget["period"], &budget["amount"], &budget["warn_percent"]),
        (&json!("day"), &json!("0.6"), &json!(80))
    );
    assert!(warehouse.log().contains("a budget is nearly spent: user:ada, day: 0.5"));

    set(&warehouse, "user:ada", "day", "2").await;
    ada.sql(sql).await;
    set(&warehouse, "user:ada", "day", "0").await;
    ada.refused(sql).await;
    warehouse
        .delete("/v1/budgets?scope=user:ada&period=day")
        .await
        .expect("it is there");
    ada.sql(sql).await;
}

#[tokio::test]
async fn budgets_of_labels_and_of_the_project_hold_for_loads_and_writes_too() {
    let mut warehouse = shop_with("").await;
    let labelled = |team: &str| json!({ "sql": "select sum(pieces) from shop.sales", "labels": { "team": team } });
    set(&warehouse, "label:team:red", "month", "0.3").await;

    warehouse.ask(labelled("red")).await.expect("the first");
    assert_eq!(
        warehouse.ask(labelled("red")).await.expect_err("the second").code,
        "over_budget"
    );
    warehouse.ask(labelled("blue")).await.expect("another team");
    let load = warehouse.load("shop.sales", "format=csv&labels=team:red", SALES).await;
    assert_eq!(load.expect_err("a load of the red team").code, "over_budget");

    // What was spent is in the ledger, for a server that has just started too.
    let spent = listed(&warehouse, "label:team:red").await["spent"].clone();
    warehouse.restart().await;
    assert_eq!(listed(&warehouse, "label:team:red").await["spent"], spent);
    assert_eq!(
        warehouse.ask(labelled("red")).await.expect_err("still").code,
        "over_budget"
    );

    set(&warehouse, "project", "day", "0").await;
    for sql in [
        "select count(*) from shop.sales",
        "create table shop.more as select 1 as a",
        "create schema more",
    ] {
        assert_eq!(warehouse.refused(sql).await.code, "over_budget", "{sql}");
    }
}

#[tokio::test]
async fn queries_that_run_at_once_do_not_pass_a_budget_together() {
    let warehouse = shop_with("").await;
    let ada = warehouse.somebody("ada", &["viewer", "query_runner"]).await;
    set(&warehouse, "user:ada", "day", "1").await;

    let asked = (0..12).map(|_| ada.try_sql("select sum(pieces), count(*) from shop.sales"));
    let answers = futures::future::join_all(asked).await;

    let answered = answers.iter().filter(|answer| answer.is_ok()).count();
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(refused.code, "over_budget", "{refused}");
    }
    assert_eq!(answered, 4, "four quarters are one");
    let lines = warehouse.ledger().await;
    let paid: f64 = lines
        .iter()
        .filter(|line| line["asked_by"] == "ada")
        .map(|line| {
            line["cost"]["amount"]
                .as_str()
                .expect("an amount")
                .parse::<f64>()
                .expect("a number")
        })
        .sum();
    assert!(paid <= 1.0, "{paid}");
}

#[tokio::test]
async fn operators_hear_once_of_a_budget_that_is_nearly_spent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let warehouse = shop_with(&format!("[billing]\nbudget_webhook = \"http://{address}/budgets\"\n")).await;
    let ada = warehouse.somebody("ada", &["viewer", "query_runner"]).await;
    set(&warehouse, "user:ada", "month", "0.3").await;
    let heard = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = String::new();
        let mut bytes = [0; 4096];
        while !request.ends_with('}') {
            let read = stream.read(&mut bytes).await.expect("a request");
            assert!(read > 0, "{request}");
            request += &String::from_utf8_lossy(&bytes[..read]);
        }
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .expect("it listens");
        request
    };

    let sql = "select sum(pieces) from shop.sales";
    let (request, _) = tokio::join!(heard, ada.sql(sql));

    assert!(request.starts_with("POST /budgets HTTP/1.1"), "{request}");
    let body: Value = serde_json::from_str(&request[request.find('{').expect("a body")..]).expect("JSON");
    assert_eq!(
        (&body["project"], &body["scope"], &body["period"]),
        (&json!("main"), &json!("user:ada"), &json!("month"))
    );
    assert_eq!(body["amount"], "0.3");
    ada.refused(sql).await;
    let again = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await;
    assert!(again.is_err(), "once is enough");
}

#[tokio::test]
async fn budgets_that_mean_nothing_are_refused() {
    let warehouse = Warehouse::start().await;
    for (budget, says) in [
        (
            json!({ "scope": "ada", "period": "day", "amount": "1" }),
            "is nothing that a budget can bound",
        ),
        (
            json!({ "scope": "project", "period": "year", "amount": "1" }),
            "is neither day nor month",
        ),
        (
            json!({ "scope": "project", "period": "day", "amount": "a lot" }),
            "is no amount of money",
        ),
        (
            json!({ "scope": "project", "period": "day", "amount": "1", "warn_percent": 0 }),
            "from 1 to 100",
        ),
    ] {
        let request = warehouse.request(Method::PUT, "/v1/budgets").json(&budget);
        let refused = request.send().await.expect("an answer");
        assert_eq!(refused.status(), 400, "{budget}");
        let told = refused.text().await.expect("a text");
        assert!(told.contains(says), "{budget}: {told}");
    }
    let gone = warehouse
        .delete("/v1/budgets?scope=project&period=day")
        .await
        .expect_err("there is none");
    assert_eq!(gone.message, "there is no budget of project for a day");
}
