//! Two tenants who distrust each other, over every route and kind of object: what is another's answers as what is not there,
//! to the byte, and changes nothing.
//!
//! [`ROUTES`] says who may use each route. It is compared with the contract, so that a route without a rule fails.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Caller, SALES, Warehouse};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Everybody, without a key.
    Anyone,
    /// Whoever has a key of a project.
    Caller,
    /// Whoever has one of these roles in the project; others are told that they may not.
    Roles(&'static [&'static str]),
    /// Operators.
    Operator,
}

use Rule::{Anyone, Operator, Roles};

const RUN: Rule = Roles(&["owner", "editor", "query_runner"]);
const BILLS: Rule = Roles(&["owner", "billing_viewer"]);
const OWNER: Rule = Roles(&["owner"]);
const EDITOR: Rule = Roles(&["owner", "editor"]);
const READER: Rule = Roles(&["owner", "editor", "viewer"]);

/// Every route, who may use it, and a body that asks for something that can be done.
const ROUTES: &[(&str, &str, Rule, &str)] = &[
    ("GET", "/healthz", Anyone, ""),
    ("GET", "/readyz", Anyone, ""),
    ("GET", "/metrics", Anyone, ""),
    ("GET", "/v1/openapi.json", Anyone, ""),
    ("GET", "/v1/prices", Anyone, ""),
    ("GET", "/v1/signing-keys", Anyone, ""),
    ("POST", "/v1/sql", RUN, r#"{"sql": "select 1"}"#),
    ("POST", "/v1/queries", RUN, r#"{"sql": "select 1", "wait_ms": 10000}"#),
    (
        "POST",
        "/v1/exports",
        RUN,
        r#"{"sql": "select 1", "name": "out", "format": "csv"}"#,
    ),
    ("GET", "/v1/queries", Rule::Caller, ""),
    ("GET", "/v1/queries/{id}", Rule::Caller, ""),
    ("POST", "/v1/queries/{id}/cancel", Rule::Caller, ""),
    ("GET", "/v1/queries/{id}/results", Rule::Caller, ""),
    ("GET", "/v1/queries/{id}/profile", Rule::Caller, ""),
    ("GET", "/v1/datasets", Rule::Caller, ""),
    ("POST", "/v1/datasets", EDITOR, r#"{"name": "fresh"}"#),
    ("GET", "/v1/datasets/{dataset}", READER, ""),
    ("DELETE", "/v1/datasets/{dataset}", EDITOR, ""),
    ("GET", "/v1/datasets/{dataset}/tables", READER, ""),
    (
        "POST",
        "/v1/datasets/{dataset}/tables",
        EDITOR,
        r#"{"name": "fresh", "schema": [{"name": "a", "type": "bigint"}]}"#,
    ),
    ("GET", "/v1/datasets/{dataset}/tables/{table}", READER, ""),
    ("DELETE", "/v1/datasets/{dataset}/tables/{table}", EDITOR, ""),
    ("GET", "/v1/datasets/{dataset}/tables/{table}/versions", READER, ""),
    ("POST", "/v1/datasets/{dataset}/tables/{table}/load", EDITOR, SALES),
    ("GET", "/v1/project", Rule::Caller, ""),
    ("PATCH", "/v1/project", OWNER, r#"{"max_bytes": null}"#),
    ("GET", "/v1/principals", OWNER, ""),
    ("POST", "/v1/principals", OWNER, r#"{"name": "fresh"}"#),
    ("GET", "/v1/principals/{name}", OWNER, ""),
    ("PATCH", "/v1/principals/{name}", OWNER, r#"{"disabled": false}"#),
    ("GET", "/v1/grants", Rule::Caller, ""),
    (
        "POST",
        "/v1/grants",
        OWNER,
        r#"{"principal": "{name}", "role": "viewer", "dataset": "{dataset}"}"#,
    ),
    ("DELETE", "/v1/grants", OWNER, ""),
    ("GET", "/v1/keys", Rule::Caller, ""),
    ("POST", "/v1/keys", OWNER, r#"{"name": "fresh", "principal": "{name}"}"#),
    ("DELETE", "/v1/keys/{id}", OWNER, ""),
    ("POST", "/v1/tokens", Rule::Caller, "{}"),
    ("GET", "/v1/audit", OWNER, ""),
    ("GET", "/v1/budgets", BILLS, ""),
    (
        "PUT",
        "/v1/budgets",
        OWNER,
        r#"{"scope": "user:{name}", "period": "day", "amount": "1000"}"#,
    ),
    ("DELETE", "/v1/budgets", OWNER, ""),
    ("GET", "/v1/ledger", BILLS, ""),
    ("GET", "/v1/ledger/export", BILLS, ""),
    ("GET", "/v1/invoices", BILLS, ""),
    ("GET", "/v1/invoices/{month}", BILLS, ""),
    ("GET", "/v1/admin/projects", Operator, ""),
    ("POST", "/v1/admin/projects", Operator, r#"{"name": "fresh"}"#),
    (
        "POST",
        "/v1/admin/projects/{project}/keys",
        Operator,
        r#"{"name": "fresh"}"#,
    ),
];

/// The names of one tenant's things, by the words for them in [`ROUTES`].
#[derive(Clone)]
struct Things(BTreeMap<&'static str, String>);

impl Things {
    /// A route, or a body, that is about them.
    fn fill(&self, template: &str, path: &str) -> String {
        let mut text = template.to_owned();
        for (word, name) in &self.0 {
            // The id of a query and that of a key have one word.
            let of_keys = path.contains("/keys/");
            let word = match *word {
                "key" if of_keys => "id",
                "query" if !of_keys => "id",
                "key" | "query" => continue,
                word => word,
            };
            text = text.replace(&format!("{{{word}}}"), name);
        }
        text
    }
}

/// A tenant with one of everything.
async fn furnished(tenant: &Caller, prefix: &str) -> Things {
    let dataset = format!("{prefix}_shop");
    tenant.dataset(&dataset).await;
    tenant.load_csv(&format!("{dataset}.sales"), SALES).await;
    let name = format!("{prefix}-ada");
    tenant.lets_in(&name, &["viewer"]).await;
    let sql = format!("select * from {dataset}.sales");
    let query = tenant
        .query(json!({ "sql": sql, "wait_ms": 10_000 }))
        .await
        .expect("a query");
    let keys = tenant.get("/v1/keys").await.expect("keys");
    let hers = keys["keys"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|key| key["principal"] == name.as_str());
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    Things(BTreeMap::from([
        ("dataset", dataset),
        ("table", "sales".to_owned()),
        ("query", text(&query["id"])),
        ("key", text(&hers.expect("she has a key")["id"])),
        ("name", name),
        ("month", chrono::Utc::now().format("%Y-%m").to_string()),
        ("project", "main".to_owned()),
    ]))
}

/// Things that nobody has, whose names are as long as those of the others.
fn missing(like: &Things) -> Things {
    let Things(names) = like;
    let missing = names.iter().map(|(word, name)| {
        let missing = match *word {
            // Everybody has this month, and the same word for a table.
            "month" | "project" | "table" => name.clone(),
            "query" => format!("q_{}", "0".repeat(32)),
            "key" => format!("k_{}", "0".repeat(32)),
            _ => "x".repeat(name.len()),
        };
        (*word, missing)
    });
    Things(missing.collect())
}

/// An answer: its status, its headers but for the date, and its body.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

async fn ask(caller: &Caller, route: &(&str, &str, Rule, &str), things: &Things) -> Answer {
    let (method, template, _, body) = *route;
    let mut path = things.fill(template, template);
    match template {
        "/v1/grants" if method == "DELETE" => {
            path += &things.fill("?principal={name}&role=viewer&dataset={dataset}", template);
        }
        "/v1/budgets" if method == "DELETE" => path += &things.fill("?scope=user:{name}&period=day", template),
        "/v1/datasets/{dataset}/tables/{table}/load" => path += "?format=csv&wait_ms=60000",
        "/v1/datasets/{dataset}" if method == "DELETE" => path += "?cascade=true",
        _ => {}
    }
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = caller.request(method, &path);
    let request = match body {
        "" => request,
        json if json.starts_with('{') => request
            .header("content-type", "application/json")
            .body(things.fill(json, template)),
        file => request.body(file.to_owned()),
    };
    let response = request.send().await.expect("the gateway answers");
    let headers = response.headers().iter();
    let headers = headers
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    Answer {
        status: response.status().as_u16(),
        headers,
        body: response.text().await.expect("the answer ends well"),
    }
}

/// The answer with the names of things replaced by the words for them.
fn without_names(mut answer: Answer, things: &Things) -> Answer {
    let Things(names) = things;
    for (word, name) in names
        .iter()
        .filter(|(word, _)| !["month", "project", "table"].contains(word))
    {
        answer.body = answer.body.replace(name.as_str(), word);
    }
    if let Some(length) = answer.headers.get_mut("content-length") {
        // Names of one length were replaced by words of one length.
        length.clear();
    }
    answer
}

#[test]
fn every_route_of_the_contract_has_a_rule_and_every_rule_a_route() {
    let contract: Value = serde_json::from_str(include_str!("../../gateway/openapi.json")).expect("JSON");
    let mut routes = BTreeMap::new();
    for (path, methods) in contract["paths"].as_object().expect("paths") {
        for (method, page) in methods.as_object().expect("methods") {
            let security = page.get("security").map(Value::to_string);
            routes.insert((method.to_uppercase(), path.clone()), security);
        }
    }

    let ruled: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    assert_eq!(ruled, routes.keys().cloned().collect(), "each route has one rule");
    for (method, path, rule, _) in ROUTES {
        let security = routes[&((*method).to_owned(), (*path).to_owned())].as_deref();
        let said = match rule {
            Anyone => Some("[{}]"),
            Operator => Some("[{\"operator\":[]}]"),
            Rule::Caller | Roles(_) => None,
        };
        assert_eq!(security, said, "what the contract says of {method} {path}");
    }
}

#[tokio::test]
async fn what_is_another_tenants_answers_as_what_is_not_there_and_changes_nothing() {
    let warehouse = Warehouse::start().await;
    let victim = warehouse.with_key(warehouse.project_name(), warehouse.key());
    let things = furnished(&victim, "victim").await;
    let hostile = warehouse.project("hostile").await;
    let own = furnished(&hostile, "malice").await;
    let nothing = missing(&things);
    let before = state_of(&victim).await;

    for route in ROUTES
        .iter()
        .filter(|(_, path, ..)| path.contains('{') || path.contains("grants") || *path == "/v1/keys")
    {
        let (method, path, rule, _) = route;
        if *rule == Operator || path.contains("{month}") {
            continue;
        }
        // What he has, so that the route is known to do something for him. Last of all what takes things away.
        let foreign = ask(&hostile, route, &things).await;
        let absent = ask(&hostile, route, &nothing).await;
        assert_eq!(
            without_names(foreign, &things),
            without_names(absent, &nothing),
            "{method} {path}: another's, and nobody's"
        );
    }
    for (method, path, rule, body) in ROUTES.iter().filter(|(method, ..)| *method != "DELETE") {
        if matches!(rule, Rule::Caller | Roles(_)) {
            let answer = ask(&hostile, &(method, path, *rule, body), &own).await;
            assert!(answer.status < 400, "{method} {path}, of his own: {answer:?}");
            for name in ["victim", things.0["query"].as_str(), things.0["key"].as_str()] {
                assert!(
                    !answer.body.contains(name),
                    "{method} {path} says {name}: {}",
                    answer.body
                );
            }
        }
    }

    assert_eq!(state_of(&victim).await, before, "nothing of the victim's has changed");
    let log = victim.get("/v1/audit?limit=1000").await.expect("a log").to_string();
    assert!(!log.contains("malice"), "{log}");
}

/// Everything that a tenant can see of his own.
async fn state_of(tenant: &Caller) -> Vec<Value> {
    let mut state = Vec::new();
    for path in [
        "/v1/project",
        "/v1/principals",
        "/v1/grants",
        "/v1/keys",
        "/v1/datasets",
        "/v1/datasets/victim_shop",
        "/v1/datasets/victim_shop/tables",
        "/v1/datasets/victim_shop/tables/sales/versions",
        "/v1/queries",
        "/v1/ledger",
        "/v1/audit",
    ] {
        state.push(tenant.get(path).await.unwrap_or_else(|error| panic!("{path}: {error}")));
    }
    state
}

#[tokio::test]
async fn names_of_another_tenant_mean_nothing_in_any_statement() {
    let warehouse = Warehouse::start().await;
    let victim = warehouse.with_key(warehouse.project_name(), warehouse.key());
    furnished(&victim, "victim").await;
    victim
        .sql("create view victim_shop.v as select * from victim_shop.sales")
        .await;
    let hostile = warehouse.project("hostile").await;
    furnished(&hostile, "malice").await;
    let before = state_of(&victim).await;

    for statement in [
        "select * from main.{d}.{t}",
        "select * from {d}.{t}",
        "select * from malice_shop.sales where product in (select product from {d}.{t})",
        "with x as (select * from {d}.{t}) select * from x",
        "insert into {d}.{t} select * from malice_shop.sales",
        "insert into malice_shop.sales select * from main.{d}.{t}",
        "create table {d}.fresh as select 1 as a",
        "create table main.{d}.fresh as select 1 as a",
        "create table malice_shop.copy as select * from {d}.{t}",
        "create view malice_shop.copy as select * from {d}.{t}",
        "create view {d}.copy as select 1 as a",
        "create or replace view {d}.{t} as select 1 as a",
        "drop table {d}.{t}",
        "drop table main.{d}.{t}",
        "drop view {d}.{t}",
        "drop schema {d}",
        "drop schema main.{d} cascade",
        "truncate table {d}.{t}",
        "describe {d}.{t}",
        "show columns from {d}.{t}",
        "show create table {d}.{t}",
        "explain select * from {d}.{t}",
        "explain analyze select * from {d}.{t}",
        "grant role viewer on schema {d} to \"malice-ada\"",
        "grant role viewer on schema main.{d} to \"malice-ada\"",
        "revoke role viewer from \"victim-ada\"",
    ] {
        for table in ["sales", "v"] {
            let foreign = statement.replace("{d}", "victim_shop").replace("{t}", table);
            let absent = statement.replace("{d}", "wictim_shop").replace("{t}", table);
            let is_about_nobody = !statement.contains("{d}");
            let (refused, missing) = (hostile.refused(&foreign).await, hostile.refused(&absent).await);
            let told = |error: &crate::ApiError| {
                let words = error.message.replace("victim_shop", "d").replace("wictim_shop", "d");
                (error.status, error.code.clone(), words, error.line, error.column)
            };
            assert_eq!(told(&refused), told(&missing), "{foreign}");
            assert!(
                is_about_nobody || (400..500).contains(&refused.status),
                "{foreign}: {refused}"
            );
            let (quoted, unquoted) = (hostile.dry_run(&foreign).await, hostile.dry_run(&absent).await);
            assert_eq!(
                quoted.map_err(|error| told(&error)),
                unquoted.map_err(|error| told(&error)),
                "the price of {foreign}"
            );
        }
    }
    for view in ["tables", "columns", "views", "schemata", "grants"] {
        let rows = hostile.sql(&format!("select * from information_schema.{view}")).await;
        assert!(
            !format!("{:?}", rows.rows).contains("victim"),
            "{view}: {:?}",
            rows.rows
        );
    }
    let (_, metrics) = hostile.page("/metrics").await;
    for name in ["victim", "malice", "hostile"] {
        assert!(!metrics.contains(name), "no metric names a tenant");
    }

    assert_eq!(state_of(&victim).await, before, "nothing of the victim's has changed");
}

#[tokio::test]
async fn each_role_opens_its_routes_and_no_others() {
    let warehouse = Warehouse::start().await;
    let owner = warehouse.with_key(warehouse.project_name(), warehouse.key());
    let things = furnished(&owner, "victim").await;
    let mut callers = Vec::new();
    for role in ["viewer", "query_runner", "function_publisher", "billing_viewer"] {
        let name = format!("{}-1", role.replace('_', "-"));
        callers.push((role, owner.lets_in(&name, &[role]).await));
    }

    for route in ROUTES {
        let (method, path, rule, _) = route;
        for (role, caller) in &callers {
            let answer = ask(caller, route, &things).await;
            let may = match rule {
                Anyone | Rule::Caller => continue,
                Operator => {
                    assert_eq!(answer.status, 401, "{method} {path} as {role}");
                    continue;
                }
                Roles(roles) => roles.contains(role),
            };
            // A dataset that he may not read is not there; of anything else he is told that he may not.
            let reads = *role == "viewer";
            let refusal = if path.contains("{dataset}") && !reads { 404 } else { 403 };
            match may {
                true => assert!(answer.status < 400, "{method} {path} as {role}: {answer:?}"),
                false if *rule == OWNER && path.contains("/keys/") => assert_eq!(answer.status, 404, "{answer:?}"),
                false if *method == "POST" && path.contains("grants") && !reads => {
                    assert_eq!(answer.status, 404, "{answer:?}");
                }
                false => assert_eq!(answer.status, refusal, "{method} {path} as {role}: {answer:?}"),
            }
        }
        let nobody = caller_without_a_good_key(&owner);
        let answer = ask(&nobody, route, &things).await;
        match rule {
            Anyone => assert_eq!(answer.status, 200, "{method} {path}"),
            Rule::Caller | Roles(_) | Operator => assert_eq!(answer.status, 401, "{method} {path}: {answer:?}"),
        }
    }
}

fn caller_without_a_good_key(like: &Caller) -> Caller {
    like.with_key("main", &format!("wh_{}", "0".repeat(64)))
}
