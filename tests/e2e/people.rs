//! Who may do what in a project: people, their roles, their keys, and what is written down of what they do.

use serde_json::{Value, json};

use crate::harness::process::run;
use crate::{Caller, Warehouse, eventually, shop};

/// A shop, and beside it the books, which not everybody may read.
async fn shop_and_books() -> Warehouse {
    let warehouse = shop().await;
    warehouse.sql("create schema books").await;
    warehouse
        .sql("create table books.salaries as select 1 as n, 100 as amount")
        .await;
    warehouse
}

/// What somebody has done or was not let, the oldest first.
async fn audit_of(owner: &Caller, who: &str) -> Vec<String> {
    let page = owner.get("/v1/audit?limit=1000").await.expect("an audit log");
    let lines = page["lines"].as_array().expect("lines").iter().rev();
    lines
        .filter(|line| line["by"]["who"] == who)
        .map(|line| {
            let denied = if line["allowed"] == true { "" } else { " denied" };
            let text = |name: &str| line[name].as_str().expect("a text").to_owned();
            format!("{} {}{denied}", text("act"), text("object"))
        })
        .collect()
}

#[tokio::test]
async fn who_has_no_role_may_do_nothing_and_is_told_what_it_takes() {
    let warehouse = shop().await;
    let ada = warehouse.somebody("ada@example.com", &[]).await;

    let refused = ada.refused("select 1").await;

    assert_eq!((refused.status, refused.code.as_str()), (403, "not_allowed"));
    assert_eq!(
        refused.message,
        "you may not send statements to this project: that takes the role query_runner, editor or owner"
    );
    assert_eq!(
        ada.get("/v1/datasets").await.expect("an empty list"),
        json!({ "datasets": [] })
    );
    let me = ada.get("/v1/project").await.expect("she may know who she is");
    assert_eq!(me["you"]["who"], "ada@example.com");
    assert_eq!((&me["project"], &me["grants"]), (&json!("main"), &json!([])));
    for path in ["/v1/ledger", "/v1/invoices", "/v1/principals", "/v1/audit"] {
        assert_eq!(ada.get(path).await.expect_err("she may not").status, 403, "{path}");
    }
}

#[tokio::test]
async fn a_viewer_of_a_dataset_reads_it_and_sees_no_other() {
    let warehouse = shop_and_books().await;
    warehouse
        .sql("create view shop.paid as select amount from books.salaries")
        .await;
    let ada = warehouse.somebody("ada", &["viewer on shop", "query_runner"]).await;

    assert_eq!(ada.sql("select count(*) from shop.sales").await, json!([[4]]));
    let hidden = ada.refused("select * from books.salaries").await;
    let missing = ada.refused("select * from books.nothing").await;
    assert_eq!((hidden.status, hidden.code.as_str()), (404, "unknown_table"));
    assert_eq!(
        hidden.message.replace("salaries", "nothing"),
        missing.message,
        "what is hidden is missing"
    );
    // A view does not lend its owner's eyes, and does not tell what it cannot show.
    let view = ada.refused("select * from shop.paid").await;
    assert_eq!(
        view.message,
        "the view shop.paid reads something that is not there for you; ask who owns it"
    );
    let described = ada
        .get("/v1/datasets/shop/tables/paid")
        .await
        .expect("the view is there");
    assert!(!described.to_string().contains("salaries"), "{described}");
    let names = ada
        .sql("select table_schema, table_name from information_schema.tables where table_schema <> 'information_schema' order by table_name")
        .await;
    assert_eq!(names, json!([["shop", "paid"], ["shop", "sales"]]));
    let definitions = ada.sql("select definition from information_schema.views").await;
    assert!(!format!("{:?}", definitions.rows).contains("salaries"));
    let listed = ada.get("/v1/datasets").await.expect("a list");
    assert_eq!(listed["datasets"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(ada.get("/v1/datasets/books").await.expect_err("hidden").status, 404);

    for sql in [
        "insert into shop.sales values ('2026-02-01', 'fig', 1, 1.5)",
        "create table shop.more as select 1 as a",
        "truncate table shop.sales",
        "drop table shop.sales",
        "create view shop.v as select * from shop.sales",
        "create schema mine",
        "drop schema shop cascade",
        "grant role owner on schema shop to ada",
    ] {
        let refused = ada.refused(sql).await;
        assert_eq!(
            (refused.status, refused.code.as_str()),
            (403, "not_allowed"),
            "{sql}: {refused}"
        );
    }
    let load = ada.load("shop.sales", "format=csv", "day,product,pieces,price\n").await;
    assert_eq!(load.expect_err("she may not").status, 403);
    assert_eq!(
        warehouse.sql("select count(*) from shop.sales").await,
        json!([[4]]),
        "nothing has changed"
    );
}

#[tokio::test]
async fn an_editor_of_a_dataset_changes_it_and_an_owner_says_who_may() {
    let warehouse = shop_and_books().await;
    let ada = warehouse.somebody("ada", &["owner on shop", "query_runner"]).await;
    let bob = warehouse.somebody("bob", &["query_runner"]).await;

    assert_eq!(bob.refused("select * from shop.sales").await.status, 404);
    ada.sql("grant role editor on schema shop to bob").await;
    bob.sql("insert into shop.sales values ('2026-02-01', 'fig', 1, 1.5)")
        .await;
    bob.sql("create table shop.more as select 1 as a").await;
    bob.sql("drop table shop.more").await;
    assert_eq!(bob.refused("grant role viewer on schema shop to bob").await.status, 403);
    assert_eq!(bob.refused("drop schema shop cascade").await.status, 403);

    let shown = ada.sql("show grants on schema shop").await;
    let columns: Vec<&str> = shown
        .schema
        .iter()
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(columns, ["principal", "role", "dataset", "granted_at", "granted_by"]);
    let granted = ada
        .sql("select principal, role, granted_by from information_schema.grants where dataset = 'shop' order by principal")
        .await;
    assert_eq!(
        granted,
        json!([["ada", "owner", "(project)"], ["bob", "editor", "ada"]])
    );
    let own = bob
        .sql("select role from information_schema.grants order by role")
        .await;
    assert_eq!(own, json!([["editor"], ["query_runner"]]), "he sees his own");
    ada.sql("revoke role editor on schema shop from user bob").await;
    let gone = bob.refused("select * from shop.sales").await;
    assert_eq!(gone.status, 404, "at once, at the server that was told");
    let nobody = ada.refused("grant role viewer on schema shop to carol").await;
    assert_eq!(nobody.message, "nobody named carol is in the project");
    assert_eq!(
        ada.refused("grant role viewer on schema books to bob").await.code,
        "unknown_dataset"
    );
    assert_eq!(ada.refused("grant role viewer to bob").await.status, 403);
}

#[tokio::test]
async fn grants_that_mean_nothing_say_what_to_write() {
    let warehouse = shop().await;
    warehouse.somebody("bob", &[]).await;

    for (sql, says) in [
        ("grant select on schema shop to bob", "privileges come as roles here"),
        (
            "grant role king on schema shop to bob",
            "no role named king; the roles are owner, editor",
        ),
        (
            "grant role query_runner on schema shop to bob",
            "query_runner is a role in the project",
        ),
        (
            "grant role viewer on table shop.sales to bob",
            "a role is had for a schema or for the whole project",
        ),
        (
            "grant role viewer on schema shop to role staff",
            "only users and service accounts can",
        ),
        (
            "grant role viewer on schema shop to bob with grant option",
            "a grant says which role",
        ),
        ("grant role viewer to \"Bob Smith\"", "cannot name a user"),
        ("revoke role viewer from bob", "bob does not have the role viewer"),
        ("show grants of bob", "write `show grants`"),
    ] {
        let refused = warehouse.refused(sql).await;
        assert!(refused.message.contains(says), "{sql}: {refused}");
        assert!((400..500).contains(&refused.status), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn a_query_is_there_for_who_asked_it_and_for_owners() {
    let warehouse = shop().await;
    let roles = ["viewer on shop", "query_runner"];
    let (ada, bob) = (
        warehouse.somebody("ada", &roles).await,
        warehouse.somebody("bob", &roles).await,
    );
    let asked = json!({ "sql": "select sum(pieces) from shop.sales", "request_id": "r-1", "wait_ms": 10_000 });
    let query = ada.query(asked.clone()).await.expect("her query");
    let id = query["id"].as_str().expect("an id");

    assert_eq!(query["asked_by"]["who"], "ada");
    assert!(
        query["asked_by"]["key"]
            .as_str()
            .is_some_and(|key| key.starts_with("k_"))
    );
    assert_eq!(query["asked_by"]["address"], "127.0.0.1");
    for path in ["", "/results", "/profile"] {
        let path = format!("/v1/queries/{id}{path}");
        let others = bob.get(&path).await.expect_err("it is not his");
        let missing = bob
            .get(&path.replace(id, "q_00000000000000000000000000000000"))
            .await
            .expect_err("there is none");
        assert_eq!((others.status, &others.code), (missing.status, &missing.code), "{path}");
        let told = |message: &str| {
            message
                .replace(id, "")
                .replace("q_00000000000000000000000000000000", "")
        };
        assert_eq!(told(&others.message), told(&missing.message), "{path}");
        let hers = ada
            .request(reqwest::Method::GET, &path)
            .send()
            .await
            .expect("an answer");
        assert_eq!(hers.status(), 200, "{path} is hers");
    }
    assert_eq!(
        bob.post(&format!("/v1/queries/{id}/cancel"), json!({}))
            .await
            .expect_err("not his")
            .status,
        404
    );
    let listed = bob.get("/v1/queries").await.expect("a list");
    assert_eq!(listed["queries"], json!([]));
    assert_eq!(
        bob.get("/v1/queries?asked_by=ada").await.expect("a list")["queries"],
        json!([])
    );
    // Who guesses the name of her request does not get her answer, nor learns what she asked.
    let other = json!({ "sql": "select 2", "request_id": "r-1", "wait_ms": 10_000 });
    let mut told = Vec::new();
    for guess in [asked, other] {
        let guessed = bob.query(guess).await.expect_err("the name is taken");
        assert_eq!((guessed.status, guessed.code.as_str()), (409, "conflict"), "{guessed}");
        told.push(guessed.message);
    }
    assert_eq!(told[0], told[1]);
    assert!(!told[0].contains(id), "{told:?}");

    let all = warehouse.get("/v1/queries?asked_by=ada").await.expect("a list");
    assert_eq!(all["queries"][0]["id"], id);
    assert!(warehouse.get(&format!("/v1/queries/{id}")).await.is_ok());
}

#[tokio::test]
async fn a_key_is_shown_once_listed_by_its_id_and_opens_nothing_when_it_is_revoked() {
    let warehouse = shop().await;
    let ada = warehouse.somebody("ada", &["query_runner"]).await;

    let keys = ada.get("/v1/keys").await.expect("her keys");
    let [key] = keys["keys"].as_array().expect("a list").as_slice() else {
        panic!("she has one key: {keys}")
    };
    assert_eq!((&key["name"], &key["principal"]), (&json!("of ada"), &json!("ada")));
    assert!(!keys.to_string().contains(ada.key()), "a key is shown once");
    let all = warehouse.get("/v1/keys").await.expect("all keys");
    assert_eq!(all["keys"].as_array().map(Vec::len), Some(2), "{all}");
    let first = all["keys"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|key| key["name"] == "first");
    let first = first.expect("the project's own")["id"].as_str().expect("an id");
    assert_eq!(
        ada.delete(&format!("/v1/keys/{first}"))
            .await
            .expect_err("not hers")
            .status,
        404
    );

    let id = key["id"].as_str().expect("an id");
    ada.delete(&format!("/v1/keys/{id}")).await.expect("her own");

    let gone = ada.try_sql("select 1").await.expect_err("it is revoked");
    assert_eq!((gone.status, gone.code.as_str()), (401, "unauthenticated"));
    let never = warehouse
        .anonymous(reqwest::Method::GET, "/v1/project")
        .bearer_auth("wh_nothing");
    assert_eq!(never.send().await.expect("an answer").status(), 401);
    let two = warehouse
        .request(reqwest::Method::GET, "/v1/project")
        .header("authorization", "Bearer wh_nothing");
    assert_eq!(
        two.send().await.expect("an answer").status(),
        401,
        "nobody knows which is meant"
    );
    assert_eq!(audit_of(&warehouse, "ada").await, [format!("revoke_key {id}")]);
}

#[tokio::test]
async fn a_key_may_do_at_most_what_its_scope_says_and_makes_none_that_may_do_more() {
    let warehouse = shop_and_books().await;
    let ada = warehouse.somebody("ada", &["editor"]).await;
    let scope = json!([{ "role": "viewer", "dataset": "shop" }, { "role": "query_runner" }]);
    let narrow = ada
        .key_for(json!({ "name": "report", "principal": "ada", "scope": scope }))
        .await;
    let projects = warehouse.key_for(json!({ "name": "reader", "scope": scope })).await;
    let wide = ada.send("select * from books.salaries").await;
    ada.ended(&wide).await;

    for key in [&narrow, &projects] {
        assert_eq!(key.sql("select count(*) from shop.sales").await, json!([[4]]));
        assert_eq!(key.refused("select * from books.salaries").await.status, 404);
        assert_eq!(key.refused("truncate table shop.sales").await.status, 403);
        // What was asked with another key is not there for it, nor is that key.
        assert_eq!(
            key.get(&format!("/v1/queries/{wide}/results"))
                .await
                .expect_err("not its own")
                .status,
            404
        );
        let own = key.get("/v1/queries").await.expect("a list").to_string();
        assert!(own.contains("shop.sales") && !own.contains(&wide), "{own}");
        let keys = key.get("/v1/keys").await.expect("a list");
        assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1), "{keys}");
        assert!(
            !key.get("/v1/grants")
                .await
                .expect("a list")
                .to_string()
                .contains("books")
        );
        for new in [
            json!({ "name": "more", "principal": "ada" }),
            json!({ "name": "more" }),
            json!({ "name": "more", "principal": "ada", "scope": scope }),
        ] {
            assert_eq!(key.post("/v1/keys", new).await.expect_err("it may not").status, 403);
        }
    }
    // A project's key that is not the owner's is nobody's to make.
    assert_eq!(
        ada.post("/v1/keys", json!({ "name": "all" }))
            .await
            .expect_err("an editor")
            .status,
        403
    );
}

#[tokio::test]
async fn a_token_stands_for_its_key_for_a_while_and_may_do_no_more() {
    let warehouse = shop_and_books().await;
    let ada = warehouse.somebody("ada", &["viewer", "query_runner"]).await;
    let wide = ada.send("select * from books.salaries").await;
    ada.ended(&wide).await;
    let scope = json!([
        { "role": "viewer", "dataset": "shop" },
        { "role": "query_runner" },
        { "role": "owner", "dataset": "shop" },
    ]);
    let made = ada
        .post("/v1/tokens", json!({ "expires_in_s": 600, "scope": scope }))
        .await
        .expect("a token");
    let token = ada.with_key("main", made["token"].as_str().expect("a token"));

    assert_eq!(token.sql("select count(*) from shop.sales").await, json!([[4]]));
    assert_eq!(token.refused("select * from books.salaries").await.status, 404);
    assert_eq!(
        token.refused("truncate table shop.sales").await.status,
        403,
        "no more than ada"
    );
    let me = token.get("/v1/project").await.expect("who it is")["you"].clone();
    assert_eq!((&me["who"], me["token"].is_string()), (&json!("ada"), true), "{me}");
    assert_eq!(
        token
            .get(&format!("/v1/queries/{wide}"))
            .await
            .expect_err("not its own")
            .status,
        404
    );
    for (path, body) in [
        ("/v1/tokens", json!({})),
        ("/v1/keys", json!({ "name": "k", "principal": "ada" })),
    ] {
        assert_eq!(
            token.post(path, body).await.expect_err("that takes a key").status,
            403,
            "{path}"
        );
    }
    for seconds in [0, 3_601] {
        let refused = ada.post("/v1/tokens", json!({ "expires_in_s": seconds })).await;
        assert!(
            refused
                .expect_err("it is too long")
                .message
                .contains("1 to 3600 seconds")
        );
    }
    let text = made["token"].as_str().expect("a token");
    let unsigned = format!("{}.", &text[..text.rfind('.').expect("three parts")]);
    for forged in [unsigned, format!("{text}A"), text.to_uppercase()] {
        assert_eq!(
            ada.with_key("main", &forged)
                .get("/v1/project")
                .await
                .expect_err("forged")
                .status,
            401
        );
    }

    let keys = ada.get("/v1/keys").await.expect("her key");
    let id = keys["keys"][0]["id"].as_str().expect("an id");
    warehouse
        .delete(&format!("/v1/keys/{id}"))
        .await
        .expect("the owner may");
    assert_eq!(
        token.get("/v1/project").await.expect_err("its key is revoked").status,
        401
    );
}

#[tokio::test]
async fn a_role_in_a_dataset_goes_with_it_and_cannot_be_had_before_it_is_there() {
    let warehouse = shop_and_books().await;
    let ada = warehouse.somebody("ada", &["viewer on books", "query_runner"]).await;
    let scope = json!([{ "role": "viewer", "dataset": "books" }, { "role": "query_runner" }]);
    let narrow = warehouse.key_for(json!({ "name": "narrow", "scope": scope })).await;
    for reader in [&ada, &narrow] {
        reader.sql("select * from books.salaries").await;
    }

    warehouse.sql("drop schema books cascade").await;
    let grant = json!({ "principal": "ada", "role": "viewer", "dataset": "books" });
    assert_eq!(
        warehouse
            .post("/v1/grants", grant)
            .await
            .expect_err("there is none")
            .status,
        404
    );
    let words = ["admin", "grant", "main", "viewer", "ada", "--dataset", "books"];
    assert!(!warehouse.command(&words).await.status.success());
    warehouse.sql("create schema books").await;
    warehouse.sql("create table books.salaries as select 2 as n").await;

    for reader in [&ada, &narrow] {
        assert_eq!(
            reader.refused("select * from books.salaries").await.status,
            404,
            "these are other books"
        );
    }
}

#[tokio::test]
async fn a_project_that_asks_too_often_is_told_when_it_may_again() {
    let warehouse = Warehouse::start_with("[quotas]\nquotes_per_minute = 2\nrequests_per_second = 50").await;

    warehouse.dry_run("select 1").await.expect("a quote");
    warehouse.dry_run("select 1").await.expect("a quote");
    let request = warehouse
        .request(reqwest::Method::POST, "/v1/sql?dry_run=true")
        .body("select 1");
    let refused = request.send().await.expect("an answer");

    assert_eq!(refused.status(), 429);
    let after = refused.headers()["retry-after"]
        .to_str()
        .expect("a number")
        .parse::<u64>();
    assert!((1..=30).contains(&after.expect("seconds")));
    let told: Value = refused.json().await.expect("JSON");
    let message = told["error"]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("the project has had more than the 2 dry runs that it may in a minute; try again in "),
        "{message}"
    );
    let mut statuses = Vec::new();
    for _ in 0..400 {
        statuses.push(
            warehouse
                .get("/v1/project")
                .await
                .err()
                .map_or(200, |error| error.status),
        );
    }
    assert!(statuses.contains(&429) && statuses.contains(&200), "{statuses:?}");
}

#[tokio::test]
async fn a_key_ends_when_it_says() {
    let warehouse = shop().await;
    warehouse.somebody("ada", &["query_runner"]).await;
    let at = |seconds: i64| (chrono::Utc::now() + chrono::TimeDelta::seconds(seconds)).to_rfc3339();
    let late = warehouse
        .post("/v1/keys", json!({ "name": "late", "expires_at": at(-1) }))
        .await;
    assert!(late.expect_err("it has ended").message.contains("has ended already"));

    let soon = json!({ "name": "soon", "principal": "ada", "expires_at": at(5) });
    let soon = warehouse.key_for(soon).await;
    assert!(soon.get("/v1/project").await.is_ok());
    let longer = soon
        .post("/v1/keys", json!({ "name": "longer", "principal": "ada" }))
        .await;
    assert_eq!(longer.expect_err("it would last longer").status, 403);

    eventually("the key has ended", async || soon.get("/v1/project").await.is_err()).await;
    assert_eq!(
        soon.get("/v1/project").await.expect_err("it has ended").code,
        "unauthenticated"
    );
}

#[tokio::test]
async fn who_is_disabled_is_out_at_once_and_comes_back_with_what_he_had() {
    let warehouse = shop().await;
    let ada = warehouse.somebody("ada", &["query_runner"]).await;
    ada.sql("select 1").await;

    let path = "/v1/principals/ada";
    let out = warehouse
        .patch(path, json!({ "disabled": true }))
        .await
        .expect("it is done");
    assert!(out["disabled_at"].is_string(), "{out}");
    assert_eq!(ada.try_sql("select 1").await.expect_err("she is out").status, 401);
    warehouse
        .patch(path, json!({ "disabled": false }))
        .await
        .expect("it is done");
    ada.sql("select 1").await;

    assert_eq!(
        ada.patch(path, json!({ "disabled": true }))
            .await
            .expect_err("she may not")
            .status,
        403
    );
}

#[tokio::test]
async fn what_a_query_may_cost_is_said_for_somebody_or_for_the_project() {
    let warehouse = shop().await;
    let ada = warehouse.somebody("ada", &["viewer", "query_runner"]).await;
    let read = "select sum(pieces) from shop.sales";
    assert!(ada.try_sql(read).await.is_ok());

    warehouse
        .patch("/v1/project", json!({ "max_bytes": 10 }))
        .await
        .expect("the owner says so");
    let refused = ada.refused(read).await;
    assert_eq!(refused.code, "over_budget");
    assert!(
        refused
            .message
            .contains("more than the 10 that one may process which does not say"),
        "{refused}"
    );
    // Hers goes before the project's; a query's own before both.
    let said = warehouse
        .patch(
            "/v1/principals/ada",
            json!({ "max_bytes": 1_000_000, "max_cost": "0.5" }),
        )
        .await
        .expect("the owner says so");
    assert_eq!(
        (&said["max_bytes"], &said["max_cost"]),
        (&json!(1_000_000), &json!("0.5"))
    );
    assert!(ada.try_sql(read).await.is_ok());
    let asked = json!({ "sql": read, "max_bytes": 5 });
    assert!(
        ada.ask(asked)
            .await
            .expect_err("it said so")
            .message
            .contains("its `max_bytes`")
    );
    let quoted = ada.dry_run(read).await.expect("a quote");
    assert_eq!(quoted["max_cost"], "0.5");

    let cleared = warehouse
        .patch("/v1/principals/ada", json!({ "max_bytes": null }))
        .await
        .expect("the owner says so");
    assert_eq!((cleared.get("max_bytes"), &cleared["max_cost"]), (None, &json!("0.5")));
    assert_eq!(ada.refused(read).await.code, "over_budget");
    assert_eq!(
        ada.patch("/v1/project", json!({ "max_bytes": null }))
            .await
            .expect_err("she may not")
            .status,
        403
    );
}

#[tokio::test]
async fn bills_are_read_by_who_may_and_say_who_asked() {
    let warehouse = shop().await;
    let ada = warehouse.somebody("ada", &["viewer", "query_runner"]).await;
    let clerk = warehouse.somebody("clerk", &["billing_viewer"]).await;
    ada.sql("select sum(pieces) from shop.sales").await;

    let month = chrono::Utc::now().format("%Y-%m").to_string();
    let invoice = clerk.get(&format!("/v1/invoices/{month}")).await.expect("an invoice");

    assert_eq!(invoice["by_user"]["ada"]["queries"], 1, "{invoice}");
    assert!(invoice["by_user"]["(project)"].is_object(), "{invoice}");
    let line = clerk.ledger().await.pop().expect("a line");
    assert_eq!(line["asked_by"], "ada");
    assert!(
        line["entry"]
            .as_str()
            .is_some_and(|entry| entry.ends_with("\"by\":\"ada\"}")),
        "{line}"
    );
    assert_eq!(clerk.refused("select 1").await.status, 403);
    assert_eq!(ada.get("/v1/ledger").await.expect_err("she may not").status, 403);
    let export = clerk
        .request(reqwest::Method::GET, "/v1/ledger/export")
        .send()
        .await
        .expect("an answer");
    assert_eq!(export.status(), 200);
}

#[tokio::test]
async fn a_tenant_asks_about_his_queries_and_their_cost_in_sql() {
    let warehouse = shop().await;
    let ada = warehouse.somebody("ada", &["viewer", "query_runner"]).await;
    let team = json!({ "sql": "select sum(pieces) from shop.sales", "labels": { "team": "red" } });
    ada.ask(team).await.expect("an answer");
    ada.refused("select 1 / (pieces - 1) from shop.sales").await;

    let own = "select kind, state, error_code, bytes_processed > 0, cost > 0, json_get_str(labels, 'team') \
               from information_schema.queries where asked_by = 'ada' order by created_at limit 2";
    let expected = json!([
        ["select", "done", null, true, true, "red"],
        ["select", "failed", "execution_failed", false, false, null],
    ]);
    assert_eq!(ada.sql(own).await, expected);
    assert_eq!(warehouse.sql(own).await, expected, "an owner sees them too");
    let others = "select count(*) from information_schema.queries where asked_by <> 'ada'";
    assert_eq!(ada.sql(others).await, json!([[0]]));
    assert_eq!(
        ada.refused("select * from information_schema.invoice_lines")
            .await
            .status,
        403
    );
    assert_eq!(ada.refused("select * from information_schema.usage").await.status, 403);

    // The lines add up to the invoice, to the last digit, in either table.
    let invoice = warehouse
        .get(&format!("/v1/invoices/{}", chrono::Utc::now().format("%Y-%m")))
        .await;
    let hers = &invoice.expect("an invoice")["by_user"]["ada"];
    let sums = "select cast(sum(cost) as varchar), sum(bytes_processed) from information_schema.";
    for table in [
        "invoice_lines where asked_by = 'ada' and free is null",
        "usage where asked_by = 'ada'",
    ] {
        let sum = warehouse.sql(&format!("{sums}{table}")).await;
        let cost = sum.rows[0][0].as_str().expect("a sum").trim_end_matches('0').to_owned();
        assert_eq!(
            (&json!(cost), &sum.rows[0][1]),
            (&hers["amount"], &hers["bytes_processed"]),
            "{table}"
        );
    }
    let free = "select state, free, price_list is not null from information_schema.invoice_lines \
                where asked_by = 'ada' and free is not null order by seq limit 1";
    assert_eq!(warehouse.sql(free).await, json!([["failed", "failed", true]]));
    let quote = warehouse.dry_run(&format!("{sums}usage")).await.expect("a quote");
    assert_eq!(quote["cost"]["amount"], "0", "what it costs to ask what was paid");
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_from_where_and_who_was_not_let() {
    let warehouse = shop().await;
    let ada = warehouse.somebody("ada", &["editor on shop", "query_runner"]).await;

    ada.delete("/v1/datasets/shop/tables/sales")
        .await
        .expect("an editor may");
    ada.post("/v1/datasets", json!({ "name": "mine" }))
        .await
        .expect_err("she may not");
    ada.get("/v1/audit").await.expect_err("she may not");

    ada.refused("grant role query_runner to ada").await;
    ada.sql("create view shop.v as select 1 as a").await;

    let expected = [
        "drop_table shop.sales",
        "request POST /v1/datasets denied",
        "request GET /v1/audit denied",
        "grant say who may do what in the project denied",
        "create_view shop.v",
    ];
    assert_eq!(audit_of(&warehouse, "ada").await, expected);
    let page = warehouse.get("/v1/audit?limit=4").await.expect("a page");
    let line = &page["lines"][0];
    assert!(
        line["query_id"].as_str().is_some_and(|id| id.starts_with("q_")),
        "{line}"
    );
    assert_eq!(
        (&line["by"]["who"], &line["by"]["address"]),
        (&json!("ada"), &json!("127.0.0.1"))
    );
    let next = page["next_cursor"].as_str().expect("there are more");
    let older = warehouse
        .get(&format!("/v1/audit?limit=4&cursor={next}"))
        .await
        .expect("a page");
    assert_eq!(older["lines"][0]["act"], "drop_table");
    let whole = warehouse.get("/v1/audit?limit=1000").await.expect("a page").to_string();
    assert!(!whole.contains("wh_"), "no key is in it");
}

#[tokio::test]
async fn an_operator_makes_projects_and_keys_and_reads_nothing_in_them() {
    let warehouse = shop().await;
    let operator = warehouse.operator();

    let made = operator
        .post("/v1/admin/projects", json!({ "name": "acme" }))
        .await
        .expect("a project");
    let key = made["key"].as_str().expect("a key").to_owned();
    let list = operator.get("/v1/admin/projects").await.expect("a list");
    assert_eq!(list, json!({ "projects": ["acme", "main"] }));
    let acme = |key: &str| {
        let request = warehouse
            .anonymous(reqwest::Method::GET, "/v1/project")
            .bearer_auth(key.to_owned());
        async move {
            request
                .send()
                .await
                .expect("an answer")
                .json::<Value>()
                .await
                .expect("JSON")
        }
    };
    assert_eq!(acme(&key).await["project"], "acme");
    let again = operator
        .post("/v1/admin/projects/acme/keys", json!({ "name": "lost" }))
        .await
        .expect("a key");
    assert_eq!(acme(again["key"].as_str().expect("a key")).await["project"], "acme");
    let nowhere = operator
        .post("/v1/admin/projects/nowhere/keys", json!({ "name": "x" }))
        .await;
    assert_eq!(nowhere.expect_err("no such project").status, 404);

    for path in ["/v1/project", "/v1/datasets", "/v1/queries", "/v1/audit", "/v1/ledger"] {
        assert_eq!(
            operator.get(path).await.expect_err("it is no project's key").status,
            401,
            "{path}"
        );
    }
    assert_eq!(
        warehouse
            .get("/v1/admin/projects")
            .await
            .expect_err("no operator")
            .status,
        401
    );
    let log = audit_of(&warehouse, "(operator first)").await;
    assert_eq!(log, [] as [&str; 0], "what was done to acme is in the log of acme");
}

#[tokio::test]
async fn the_command_line_manages_people_beside_a_running_server() {
    let warehouse = shop().await;
    let admin = async |words: &[&str]| {
        let words: Vec<&str> = ["admin"].iter().chain(words).copied().collect();
        let output = warehouse.command(&words).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    };
    let done = async |words: &[&str]| {
        let (is_done, said) = admin(words).await;
        assert!(is_done, "{words:?}: {said}");
        said
    };

    done(&["create-service-account", "main", "etl"]).await;
    done(&["grant", "main", "editor", "etl", "--dataset", "shop"]).await;
    done(&["grant", "main", "query_runner", "etl"]).await;
    let scope = ["--scope", "viewer@shop", "--scope", "query_runner"];
    let mut words = vec![
        "create-key",
        "main",
        "--name",
        "nightly",
        "--principal",
        "etl",
        "--expires-in-days",
        "30",
    ];
    words.extend(scope);
    let key = done(&words).await;
    let etl = warehouse.with_key("main", key.trim());
    assert_eq!(etl.sql("select count(*) from shop.sales").await, json!([[4]]));
    assert_eq!(etl.refused("truncate table shop.sales").await.status, 403);
    assert!(done(&["list-grants", "main"]).await.contains("etl\teditor on shop"));
    let keys = done(&["list-keys", "main"]).await;
    let line = keys
        .lines()
        .find(|line| line.contains("nightly"))
        .expect("the key is listed");
    assert!(line.contains("etl") && line.contains("good until"), "{line}");
    let id = line.split('\t').next().expect("its id comes first");
    done(&["revoke-key", "main", id]).await;
    eventually("the server has heard of it", async || {
        etl.get("/v1/project").await.is_err()
    })
    .await;
    done(&["disable", "main", "etl"]).await;
    done(&["enable", "main", "etl"]).await;
    assert!(done(&["audit", "main"]).await.contains("(house)\trevoke_key"));
    let operator = done(&["create-operator-key", "night-shift"]).await;
    assert!(operator.starts_with("wh_op_"), "{operator}");

    for (words, says) in [
        (&["grant", "main", "king", "etl"] as &[&str], "no role named king"),
        (
            &["grant", "main", "viewer", "nobody"],
            "nobody named nobody is in the project",
        ),
        (&["create-user", "nowhere", "ada"], "no project named nowhere"),
        (&["create-user", "main", "Ada Lovelace"], "cannot name a user"),
        (
            &["create-key", "main", "--scope", "query_runner@shop"],
            "query_runner is a role in the project",
        ),
        (&["revoke-key", "main", "k_0"], "is not a key id"),
    ] {
        let (is_done, said) = admin(words).await;
        assert!(!is_done && said.contains(says), "{words:?}: {said}");
    }
    let help = String::from_utf8_lossy(&run(&["admin", "--help"]).await.stdout).into_owned();
    assert!(help.contains("Give a user or a service account a role"), "{help}");
}
