//! What a query costs before and after: dry runs, caps, and the ledger.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::process::run;
use crate::{Warehouse, shop};

#[tokio::test]
async fn a_dry_run_tells_schema_bytes_and_tables_and_leaves_no_line() {
    let warehouse = shop().await;
    let before = warehouse.ledger().await.len();

    let dry = warehouse
        .dry_run("select product, sum(pieces) as n from shop.sales group by product")
        .await
        .expect("a dry run");

    assert_eq!(dry["dry_run"], true);
    assert_eq!(dry["schema"][1]["name"], "n");
    assert!(dry["bytes_processed"].as_u64().is_some_and(|bytes| bytes > 0), "{dry}");
    assert_eq!(dry["tables"][0]["name"], "shop.sales");
    let mut columns: Vec<&str> = dry["tables"][0]["columns"]
        .as_array()
        .expect("columns")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    columns.sort_unstable();
    assert_eq!(columns, ["pieces", "product"]);
    assert_eq!(dry["tables"][0]["files"], 1);
    assert_eq!(warehouse.ledger().await.len(), before);
}

#[tokio::test]
async fn a_dry_run_of_a_write_writes_nothing() {
    let warehouse = shop().await;

    warehouse
        .dry_run("insert into shop.sales select * from shop.sales")
        .await
        .expect("a dry run");
    warehouse
        .dry_run("create table shop.copy as select * from shop.sales")
        .await
        .expect("a dry run");
    warehouse.dry_run("drop table shop.sales").await.expect("a dry run");

    assert_eq!(warehouse.sql("select count(*) from shop.sales").await, json!([[4]]));
    assert_eq!(warehouse.refused("select * from shop.copy").await.code, "unknown_table");
}

#[tokio::test]
async fn a_finished_query_processed_what_its_dry_run_said() {
    let warehouse = shop().await;
    warehouse
        .sql("insert into shop.sales select day, 'kiwi', value, 1 from shop.sales, generate_series(1, 1000)")
        .await;

    for sql in [
        "select count(*) from shop.sales",
        "select sum(pieces) from shop.sales",
        "select product, pieces from shop.sales where price > 100",
        "select * from shop.sales limit 1",
        "select a.product from shop.sales a join shop.sales b on a.pieces = b.pieces where b.pieces = 3",
        "with s as (select product from shop.sales) select count(distinct product) from s",
        "select 1",
    ] {
        let dry = warehouse.dry_run(sql).await.expect("a dry run")["bytes_processed"].as_u64();
        let rows = warehouse.sql(sql).await;
        assert_eq!(dry, Some(rows.bytes_processed()), "{sql}");
    }
}

#[tokio::test]
async fn files_that_cannot_match_are_neither_read_nor_charged() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema log").await;
    warehouse.sql("create table log.lines (at bigint, text varchar)").await;
    for part in 0..4 {
        let from = part * 1000;
        let to = from + 999;
        warehouse
            .sql(&format!(
                "insert into log.lines select value, 'line' from generate_series({from}, {to})"
            ))
            .await;
    }

    let all = warehouse
        .dry_run("select sum(at) from log.lines")
        .await
        .expect("a dry run");
    let one = warehouse
        .dry_run("select sum(at) from log.lines where at between 2100 and 2200")
        .await
        .expect("a dry run");

    assert_eq!(all["tables"][0]["files"], 4);
    assert_eq!(one["tables"][0]["files"], 1);
    assert_eq!(
        one["bytes_processed"].as_u64().map(|bytes| bytes * 4),
        all["bytes_processed"].as_u64()
    );
    assert_eq!(all["bytes_processed"], 4 * 1000 * 8);
}

#[tokio::test]
async fn a_cap_refuses_before_anything_runs() {
    let warehouse = shop().await;
    let sql = "select sum(pieces) from shop.sales";
    let bytes = warehouse.dry_run(sql).await.expect("a dry run")["bytes_processed"]
        .as_u64()
        .expect("bytes");

    let under = warehouse.ask(json!({ "sql": sql, "max_bytes": bytes })).await;
    let error = warehouse
        .ask(json!({ "sql": sql, "max_bytes": bytes - 1 }))
        .await
        .expect_err("it would read more");
    let request = warehouse
        .request(Method::POST, &format!("/v1/sql?max_bytes={}", bytes - 1))
        .body(sql);
    let text = request.send().await.expect("the gateway answers");

    assert_eq!(under.expect("exactly the cap is within it"), json!([[9]]));
    assert_eq!(error.code, "over_budget");
    assert!(error.message.contains(&bytes.to_string()), "{error}");
    assert!(text.status().is_client_error());
    let id = error.query_id.expect("a refused query has an id");
    assert_eq!(
        warehouse.bills_of(&id).await.len(),
        0,
        "nothing ran, so nothing is charged"
    );
}

#[tokio::test]
async fn every_finished_query_has_one_line_before_the_caller_reads_its_end() {
    let warehouse = shop().await;

    for n in 0..20 {
        let rows = warehouse
            .sql(&format!("select sum(pieces) + {n} from shop.sales"))
            .await;
        let lines = warehouse.bills_of(&rows.query_id()).await;
        assert_eq!(lines.len(), 1, "query {n}");
        assert_eq!(lines[0]["usage"]["bytes_processed"], rows.bytes_processed());
        assert_eq!(lines[0]["usage"]["rows_returned"], 1);
    }
}

#[tokio::test]
async fn a_query_that_failed_is_free_and_its_line_says_so() {
    let warehouse = shop().await;
    let before = warehouse.ledger().await.len();

    for refused in [
        "select cast(product as bigint) from shop.sales",
        "select nothing from shop.sales",
    ] {
        let error = warehouse.refused(refused).await;
        let id = error.query_id.expect("a query");
        let lines = warehouse.ledger().await;
        let line = lines.iter().find(|line| line["query_id"] == *id).expect("a line");
        assert_eq!(line["state"], "failed");
        assert_eq!(
            (&line["cost"]["amount"], &line["cost"]["free"]),
            (&json!("0"), &json!("failed"))
        );
        let query = warehouse.get(&format!("/v1/queries/{id}")).await.expect("its record");
        assert_eq!(query["cost"], line["cost"]);
    }
    // What cannot be read is no query.
    warehouse.refused("selec").await;

    assert_eq!(warehouse.ledger().await.len(), before + 2);
}

/// Prices at which everything costs something.
pub(crate) const PRICED: &str = "[[billing.prices]]\nversion = \"2026-01\"\nfrom = \"2026-01-01T00:00:00Z\"\ncurrency = \"EUR\"\n\
    per_tb_processed = \"6.25\"\nper_tb_loaded = \"2\"\nper_query_at_least = \"0.00001\"\n";

#[tokio::test]
async fn the_price_is_known_before_and_is_what_is_paid_after() {
    let warehouse = Warehouse::start_with(PRICED).await;
    warehouse.dataset("s").await;
    warehouse
        .sql("create table s.numbers as select value as n from generate_series(1, 1000000)")
        .await;

    for (sql, amount) in [
        // 8,000,000 bytes at 6.25 for 10^12 of them.
        ("select sum(n) from s.numbers", "0.00005"),
        ("select max(n) from s.numbers where n < 0", "0.00001"),
        ("select 1", "0.00001"),
    ] {
        let dry = warehouse.dry_run(sql).await.expect("a dry run");
        assert_eq!(
            (&dry["cost"]["amount"], &dry["cost"]["currency"], &dry["cost"]["prices"]),
            (&json!(amount), &json!("EUR"), &json!("2026-01")),
            "{sql}"
        );
        let id = warehouse.send(sql).await;
        let query = warehouse.ended(&id).await;
        assert_eq!(query["cost"], dry["cost"], "{sql}");
        let lines = warehouse.bills_of(&id).await;
        assert_eq!(lines[0]["cost"], dry["cost"], "{sql}");
    }
    let items = warehouse.dry_run("select 1").await.expect("a dry run")["cost"]["items"].clone();
    assert_eq!(items, json!([{ "what": "minimum", "count": 1, "amount": "0.00001" }]));

    let csv = format!("n\n{}", "1\n".repeat(999_999));
    let loaded = warehouse
        .load("s.loaded", "format=csv", csv)
        .await
        .expect("it is loaded");
    assert_eq!(loaded["usage"]["bytes_loaded"], 2_000_000, "{loaded}");
    assert_eq!(
        loaded["cost"]["items"][0],
        json!({ "what": "bytes_loaded", "count": 2_000_000, "amount": "0.000004" })
    );
}

#[tokio::test]
async fn a_query_never_costs_more_than_it_may() {
    let warehouse = Warehouse::start_with(&format!("[billing]\nmax_cost = \"0.00004\"\n{PRICED}")).await;
    warehouse.dataset("s").await;
    warehouse
        .sql("create table s.numbers as select value as n from generate_series(1, 1000000)")
        .await;
    let sum = "select sum(n) from s.numbers";

    // The house says what a query may cost that does not.
    let error = warehouse.refused(sum).await;
    assert_eq!(error.code, "over_budget", "{error}");
    assert!(
        error.message.contains("0.00005 EUR")
            && error.message.contains("0.00004")
            && error.message.contains("max_cost"),
        "{error}"
    );
    assert!(warehouse.bills_of(&error.query_id.expect("an id")).await.is_empty());
    let dry = warehouse.dry_run(sum).await.expect("it is told all the same");
    assert_eq!(
        (&dry["max_cost"], &dry["is_within_max_cost"]),
        (&json!("0.00004"), &json!(false))
    );

    // To the last digit, in the body and in the address.
    let exactly = warehouse.ask(json!({ "sql": sum, "max_cost": "0.00005" })).await;
    assert_eq!(exactly.expect("it is within"), json!([[500_000_500_000_u64]]));
    let less = warehouse
        .ask(json!({ "sql": sum, "max_cost": "0.000049999999999999" }))
        .await;
    assert_eq!(less.expect_err("it is not").code, "over_budget");
    let request = warehouse.request(Method::POST, "/v1/sql?max_cost=0.00001").body(sum);
    assert_eq!(request.send().await.expect("an answer").status(), 422);
    // Whatever it reads, it costs the least.
    let nothing = warehouse.ask(json!({ "sql": "select 1", "max_cost": "0" })).await;
    assert_eq!(nothing.expect_err("it costs something").code, "over_budget");
    let nothing = warehouse
        .ask(json!({ "sql": "create schema other", "max_cost": "0.000001" }))
        .await;
    assert_eq!(nothing.expect_err("it costs something").code, "over_budget");

    for wrong in ["-1", "1e3", "0,5", "much", ""] {
        let error = warehouse.ask(json!({ "sql": sum, "max_cost": wrong })).await;
        let error = error.expect_err("it is no amount");
        assert_eq!(error.code, "invalid_request", "{wrong}: {error}");
        assert!(error.message.contains("max_cost"), "{error}");
    }
    let number = warehouse.ask(json!({ "sql": sum, "max_cost": 0.5 })).await;
    assert_eq!(number.expect_err("a number is a double").code, "invalid_request");
}

#[tokio::test]
async fn prices_that_were_in_force_are_there_for_ever_and_new_ones_are_another_list() {
    let mut warehouse = Warehouse::start_with(PRICED).await;
    let (status, page) = warehouse.page("/v1/prices").await;
    assert_eq!(status, 200, "everybody may know the prices");
    let page: Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(
        page["prices"],
        json!([{
            "version": "2026-01", "from": "2026-01-01T00:00:00Z", "currency": "EUR",
            "per_tb_processed": "6.25", "per_tb_loaded": "2", "per_query_at_least": "0.00001"
        }])
    );

    // A list of the future changes nothing yet.
    let future = PRICED.replace("2026-01", "2126-01").replace("6.25", "100");
    warehouse.configure(&format!("{PRICED}{future}"));
    warehouse.restart().await;
    assert_eq!(
        warehouse.dry_run("select 1").await.expect("a dry run")["cost"]["prices"],
        "2026-01"
    );
    // One that is gone from the settings can still be read.
    let (_, page) = warehouse.page("/v1/prices").await;
    let page: Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(page["prices"].as_array().map(Vec::len), Some(2));

    // The same version at another price is refused at the start.
    warehouse.configure(&PRICED.replace("6.25", "7"));
    let told = warehouse.refuses_to_start().await;
    assert!(
        told.contains("2026-01") && told.contains("a version of their own"),
        "{told}"
    );
}

#[tokio::test]
async fn the_ledger_is_a_chain_that_a_tenant_can_follow() {
    let warehouse = shop().await;
    let statements: Vec<String> = (0..12)
        .map(|n| format!("select sum(pieces) + {n} from shop.sales"))
        .collect();
    futures::future::join_all(statements.iter().map(|sql| warehouse.sql(sql))).await;

    let lines = warehouse.ledger().await;

    assert!(lines.len() >= 13, "{} lines", lines.len());
    let mut before = lines[0]["prev_hash"].clone();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], index + 1, "numbers have no gap");
        assert_eq!(
            line["prev_hash"],
            before,
            "line {} does not follow the one before it",
            index + 1
        );
        before = line["hash"].clone();
    }
    let queries: BTreeSet<&str> = lines.iter().filter_map(|line| line["query_id"].as_str()).collect();
    assert_eq!(queries.len(), lines.len(), "a query is charged once");
}

#[tokio::test]
async fn each_project_has_a_ledger_of_its_own() {
    let warehouse = shop().await;
    let stranger = warehouse.project("acme").await;

    stranger.sql("select 1").await;

    let lines = stranger.ledger().await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["seq"], 1);
}

#[tokio::test]
async fn the_same_query_costs_the_same_when_it_is_asked_again() {
    let warehouse = shop().await;
    let sql = "select product, sum(price) from shop.sales where pieces > 2 group by product";

    let first = warehouse.sql(sql).await.bytes_processed();
    let again = warehouse.sql(sql).await.bytes_processed();

    assert_eq!(first, again);
}

/// The ledger as a file, and what it is checked with, as a tenant keeps them.
pub(crate) async fn exported(warehouse: &Warehouse, folder: &std::path::Path) -> [String; 3] {
    let mut files = Vec::new();
    for (name, path) in [
        ("ledger.jsonl", "/v1/ledger/export"),
        ("prices.json", "/v1/prices"),
        ("keys.json", "/v1/signing-keys"),
    ] {
        let answer = warehouse.request(Method::GET, path).send().await.expect("an answer");
        let file = folder.join(name);
        std::fs::write(&file, answer.bytes().await.expect("all of it")).expect("a file");
        files.push(file.display().to_string());
    }
    files.try_into().expect("three files")
}

/// An amount in 10^-18 units.
pub(crate) fn attos(amount: &str) -> u128 {
    let (units, behind) = amount.split_once('.').unwrap_or((amount, ""));
    format!("{units}{behind:0<18}").parse().expect("a decimal")
}

/// Whether `wasmhouse verify-bill` says that it holds, and what it says.
pub(crate) async fn verify([ledger, prices, keys]: &[String; 3]) -> (bool, String) {
    let command = ["verify-bill", ledger, "--prices", prices, "--keys", keys];
    let output = run(&command).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn a_tenant_checks_the_bill_without_the_house() {
    let warehouse = Warehouse::start_with(PRICED).await;
    warehouse.dataset("s").await;
    warehouse
        .sql("create table s.numbers as select value as n from generate_series(1, 1000000)")
        .await;
    warehouse.sql("insert into s.numbers values (1), (2)").await;
    warehouse.sql("select sum(n) from s.numbers").await;
    warehouse.refused("select nothing from s.numbers").await;
    warehouse
        .load("s.loaded", "format=csv", "n\n1\n2\n")
        .await
        .expect("it is loaded");
    let folder = tempfile::tempdir().expect("a folder");
    let files = exported(&warehouse, folder.path()).await;

    let (holds, said) = verify(&files).await;

    let lines = warehouse.ledger().await;
    let free = lines.iter().filter(|line| line["cost"]["free"].is_string()).count();
    assert!(holds, "{said}");
    assert!(
        said.contains(&format!(
            "holds: {} lines, {} queries to be paid, {free} free",
            lines.len(),
            lines.len() - free
        )),
        "{said}"
    );
    let sum: u128 = lines
        .iter()
        .map(|line| attos(line["cost"]["amount"].as_str().expect("a text")))
        .sum();
    let told = said
        .lines()
        .find_map(|line| line.strip_prefix("to be paid: ")?.strip_suffix(" EUR"));
    assert_eq!(told.map(attos), Some(sum), "{said}");
    assert!(sum > attos("0.00008"), "{said}");

    let text = std::fs::read_to_string(&files[0]).expect("the file");
    let cheaper = text.replacen("\\\"bytes_processed\\\":8000016", "\\\"bytes_processed\\\":8000015", 1);
    assert_ne!(cheaper, text);
    std::fs::write(&files[0], &cheaper).expect("a file");
    let (holds, said) = verify(&files).await;
    assert!(!holds && said.contains("it was changed"), "{said}");

    let mut cut: Vec<&str> = text.lines().collect();
    cut.remove(cut.len() - 2);
    std::fs::write(&files[0], cut.join("\n") + "\n").expect("a file");
    let (holds, said) = verify(&files).await;
    assert!(!holds && said.contains("is missing"), "{said}");
}

#[tokio::test]
async fn a_receipt_says_what_was_read_and_at_which_version() {
    let warehouse = shop().await;
    let id = warehouse
        .send("select sum(pieces) from shop.sales where price > 0")
        .await;
    warehouse.ended(&id).await;

    let line = warehouse.bills_of(&id).await.remove(0);

    let receipt: Value = serde_json::from_str(line["receipt"]["text"].as_str().expect("a text")).expect("JSON");
    let table = &receipt["tables"][0];
    assert_eq!(
        (&table["name"], &table["columns"], &table["files"]),
        (&json!("shop.sales"), &json!(["pieces", "price"]), &json!(1))
    );
    let versions = warehouse
        .get("/v1/datasets/shop/tables/sales/versions")
        .await
        .expect("versions");
    assert_eq!(table["version"], versions["versions"][0]["version"], "{versions}");
    assert_eq!(receipt["usage"]["bytes_processed"], line["usage"]["bytes_processed"]);
    assert_eq!(receipt["outcome"], "done");
    let keys: Value = serde_json::from_str(&warehouse.page("/v1/signing-keys").await.1).expect("JSON");
    assert_eq!(keys["keys"][0]["id"], line["receipt"]["key"]);
}

#[tokio::test]
async fn an_invoice_is_the_ledger_of_a_month_added_up_in_every_way() {
    let warehouse = Warehouse::start_with(PRICED).await;
    for dataset in ["s", "t"] {
        warehouse.dataset(dataset).await;
        warehouse
            .sql(&format!(
                "create table {dataset}.numbers as select value as n from generate_series(1, 1000)"
            ))
            .await;
    }
    for (sql, team) in [
        ("select sum(n) from s.numbers", "red"),
        ("select count(*) from s.numbers a join t.numbers b on a.n = b.n", "blue"),
        ("select nothing from s.numbers", "<b>blue</b>"),
    ] {
        let _ = warehouse.ask(json!({ "sql": sql, "labels": { "team": team } })).await;
    }

    let months = warehouse.get("/v1/invoices").await.expect("months");
    let month = months["months"][0].as_str().expect("this month").to_owned();
    let invoice = warehouse
        .get(&format!("/v1/invoices/{month}"))
        .await
        .expect("an invoice");

    let lines = warehouse.ledger().await;
    let sum: u128 = lines
        .iter()
        .map(|line| attos(line["cost"]["amount"].as_str().expect("a text")))
        .sum();
    let amount = |share: &Value| attos(share["amount"].as_str().expect("a text"));
    assert_eq!(amount(&invoice["total"]), sum, "{invoice}");
    assert_eq!(invoice["lines"], json!([1, lines.len()]));
    for by in ["by_day", "by_kind", "by_dataset"] {
        let shares = invoice[by].as_object().expect("shares");
        assert_eq!(shares.values().map(amount).sum::<u128>(), sum, "{by}: {invoice}");
    }
    // 8,000 bytes of each of two tables.
    assert_eq!(invoice["by_label"]["team"]["blue"]["bytes_processed"], 16_000);
    assert_eq!(invoice["by_dataset"]["t"]["bytes_processed"], 8_000);
    assert_eq!(invoice["by_dataset"]["s"]["bytes_processed"], 16_000);

    for (accept, holds) in [
        ("text/csv", "\"<b>blue</b>\""),
        ("text/html", "&lt;b&gt;blue&lt;/b&gt;"),
    ] {
        let request = warehouse.request(Method::GET, &format!("/v1/invoices/{month}"));
        let answer = request.header("accept", accept).send().await.expect("an answer");
        let page = answer.text().await.expect("a page");
        assert!(page.contains(holds), "{page}");
        assert!(accept == "text/csv" || !page.contains("<b>blue"), "{page}");
    }
    let before = warehouse.get("/v1/invoices/2020-01").await.expect("an empty one");
    assert_eq!(before["to_pay"], "0");
    let error = warehouse.get("/v1/invoices/now").await.expect_err("no month");
    assert_eq!(error.code, "invalid_request", "{error}");
}

#[tokio::test]
async fn a_price_list_is_known_before_it_is_in_force() {
    let mut warehouse = Warehouse::start_with(PRICED).await;
    let late = PRICED.replace("2026-01", "2026-02").replace("6.25", "7");
    warehouse.configure(&format!("{PRICED}{late}"));

    let told = warehouse.refuses_to_start().await;

    assert!(told.contains("2026-02") && told.contains("60 s before"), "{told}");
}
