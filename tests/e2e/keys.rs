//! Keys: promised by whoever makes a table, believed by whoever plans a query, and shown to whoever asks.

use serde_json::json;

use crate::Warehouse;

#[tokio::test]
async fn a_query_grouped_by_a_promised_key_may_select_what_the_key_decides() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse
        .sql("create table shop.people (id int primary key not enforced, name varchar, town varchar)")
        .await;
    warehouse
        .sql("insert into shop.people values (1, 'Ada', 'London'), (2, 'Kurt', 'Brno')")
        .await;
    warehouse
        .sql("create table shop.visits as select 1 as person, 3 as days")
        .await;

    let grouped = "select p.id, p.name, sum(v.days) as days from shop.people p left join shop.visits v on v.person = p.id \
                   group by p.id order by p.id";

    assert_eq!(warehouse.sql(grouped).await, json!([[1, "Ada", 3], [2, "Kurt", null]]));
    warehouse
        .sql("create or replace table shop.people as select 1 as id, 'Ada' as name")
        .await;
    assert_eq!(warehouse.refused(grouped).await.code, "invalid_sql");
}

#[tokio::test]
async fn a_table_tells_its_keys_however_it_was_made() {
    let warehouse = Warehouse::start().await;
    warehouse.dataset("shop").await;
    let keys = json!([{ "primary": true, "columns": ["a", "b"] }, { "primary": false, "columns": ["c"] }]);
    let columns = "a int, b int, c int, primary key (a, b) not enforced, unique (c) not enforced";

    warehouse.sql(&format!("create table shop.declared ({columns})")).await;
    warehouse
        .sql(&format!("create table shop.filled ({columns}) as values (1, 2, null)"))
        .await;
    let schema = columns.replace(' ', "%20");
    warehouse
        .load("shop.loaded", &format!("format=csv&schema={schema}"), "a,b,c\n1,2,\n")
        .await
        .expect("a load that makes a table");
    let integer = |name| json!({ "name": name, "type": "int" });
    let wanted = json!({
        "name": "posted", "schema": [integer("a"), integer("b"), integer("c")], "keys": keys,
    });
    warehouse
        .post("/v1/datasets/shop/tables", wanted)
        .await
        .expect("a table by JSON");

    for table in ["declared", "filled", "loaded", "posted"] {
        let described = warehouse.get(&format!("/v1/datasets/shop/tables/{table}")).await;
        let described = described.expect("a table describes itself");
        assert_eq!(described["keys"], keys, "{table}");
        let nullable: Vec<bool> = (0..3)
            .map(|column| described["schema"][column]["nullable"] == true)
            .collect();
        assert_eq!(nullable, [false, false, true], "{table}");
    }
    warehouse.sql("insert into shop.filled values (1, 3, 4)").await;
    let described = warehouse
        .get("/v1/datasets/shop/tables/filled")
        .await
        .expect("still a table");
    assert_eq!(described["keys"], keys, "an insert leaves them as they are");
}

#[tokio::test]
async fn a_primary_key_is_never_null() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;
    warehouse
        .sql("create table shop.people (id int primary key not enforced, name varchar)")
        .await;

    let error = warehouse
        .refused("insert into shop.people values (null, 'nobody')")
        .await;

    assert_eq!(error.code, "type_mismatch", "{error}");
    assert!(error.message.contains("id"), "{error}");
}

#[tokio::test]
async fn a_key_that_is_not_written_as_a_promise_is_refused() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema shop").await;

    for (columns, column) in [
        ("id int primary key", 22),
        ("id int, unique (id)", 38),
        ("id int primary key enforced", 22),
        ("id int unique not enforced deferrable", 22),
        ("id int, primary key (id)", 43),
    ] {
        let error = warehouse.refused(&format!("create table shop.t ({columns})")).await;
        assert_eq!(error.code, "not_supported", "{columns}: {error}");
        assert!(error.message.contains("not enforced"), "{columns}: {error}");
        assert_eq!(
            (error.line, error.column),
            (Some(1), Some(column)),
            "{columns}: {error}"
        );
    }
    let two = "create table shop.t (a int primary key not enforced, b int primary key not enforced)";
    assert_eq!(warehouse.refused(two).await.code, "invalid_sql");
    let unknown = "create table shop.t (a int, primary key (b) not enforced)";
    let error = warehouse.refused(unknown).await;
    assert!(error.code != "internal" && error.message.contains('b'), "{error}");
    let load = warehouse
        .load("shop.t", "format=csv&schema=a%20int%20primary%20key", "a\n1\n")
        .await;
    assert!(load.expect_err("no promise").message.contains("not enforced"));
}

#[tokio::test]
async fn rows_without_a_value_in_a_unique_column_are_many_rows_and_one_value() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema s").await;
    warehouse
        .sql("create table s.a (id int primary key not enforced, email varchar unique not enforced)")
        .await;
    warehouse
        .sql("insert into s.a values (1, null), (2, null), (3, 'x'), (4, null), (5, 'y')")
        .await;

    for (sql, answer) in [
        ("select count(*) from (select distinct email from s.a)", json!([[3]])),
        (
            "select count(*) from (select email, id from s.a group by email, id)",
            json!([[5]]),
        ),
        (
            "select id from s.a where email is null order by email nulls first, id desc",
            json!([[4], [2], [1]]),
        ),
    ] {
        assert_eq!(warehouse.sql(sql).await, answer, "{sql}");
    }
}

#[tokio::test]
async fn a_key_is_not_believed_of_the_rows_that_unnest_makes() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema s").await;
    warehouse
        .sql("create table s.a (id int primary key not enforced, l int[]) as values (1, [1, 3]), (2, [3, 2])")
        .await;
    warehouse
        .sql("create view s.v as select id, unnest(l) as u from s.a")
        .await;

    for (sql, answer) in [
        ("select count(*) from (select distinct id from s.v)", json!([[2]])),
        (
            "select count(*) from (select id, u from s.v group by id, u)",
            json!([[4]]),
        ),
        (
            "select id, unnest(l) as u from s.a order by id, u",
            json!([[1, 1], [1, 3], [2, 2], [2, 3]]),
        ),
        (
            "select id, count(*) as n from s.v group by id order by id",
            json!([[1, 2], [2, 2]]),
        ),
        (
            "select count(*) from s.a where id in (select distinct id from s.v)",
            json!([[2]]),
        ),
    ] {
        assert_eq!(warehouse.sql(sql).await, answer, "{sql}");
    }
}

#[tokio::test]
async fn a_group_is_not_taken_for_one_row_of_a_key_that_decides_only_a_part_of_it() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema s").await;
    warehouse
        .sql("create table s.a (id int primary key not enforced, name varchar) as values (1, 'one'), (2, 'two')")
        .await;
    warehouse
        .sql("create table s.b as select * from (values (1, 30), (1, 10), (1, 20), (2, 40)) as t(a, x)")
        .await;
    warehouse
        .sql("create view s.g as select a.id, b.x, count(*) as n from s.a join s.b on b.a = a.id group by a.id, b.x")
        .await;
    let grouped = "select a.id, b.x, count(*) as n from s.a join s.b on b.a = a.id group by a.id, b.x";
    // The same, of a key that the query makes by grouping.
    let twice = "select g.id, b.x, count(*) as n from (select id, max(name) as m from s.a group by id) g \
                 join s.b on b.a = g.id group by g.id, b.x";

    for source in [format!("({grouped})"), format!("({twice})"), "s.g".to_owned()] {
        for (sql, answer) in [
            (
                format!("select count(*) from (select distinct id from {source})"),
                json!([[2]]),
            ),
            (format!("select count(*) from {source}"), json!([[4]])),
            (
                format!("select x, id from {source} union all select id, n from {source} order by 1 desc, 2 limit 3"),
                json!([[40, 2], [30, 1], [20, 1]]),
            ),
            (
                format!("select id, count(*) from {source} group by id order by id"),
                json!([[1, 3], [2, 1]]),
            ),
            (
                format!("select id, x from {source} order by id, x"),
                json!([[1, 10], [1, 20], [1, 30], [2, 40]]),
            ),
            (
                format!("select id, x, sum(1) over (order by id) from {source} order by x"),
                json!([[1, 10, 3], [1, 20, 3], [1, 30, 3], [2, 40, 4]]),
            ),
            (
                format!("select count(*) from (select b.x from s.b left join {source} q on q.id = b.a)"),
                json!([[10]]),
            ),
            (
                format!("with c as (select * from {source}) select count(*) from (select distinct id from c)"),
                json!([[2]]),
            ),
        ] {
            assert_eq!(warehouse.sql(&sql).await, answer, "{sql}");
        }
    }

    for (sql, answer) in [
        // In the very query that groups.
        (
            format!("{grouped} order by a.id, b.x"),
            json!([[1, 10, 1], [1, 20, 1], [1, 30, 1], [2, 40, 1]]),
        ),
        (
            "select distinct a.id from s.a join s.b on b.a = a.id group by a.id, b.x order by 1".to_owned(),
            json!([[1], [2]]),
        ),
        (
            "select b.x, sum(1) over w from s.a join s.b on b.a = a.id group by a.id, b.x window w as (order by a.id) \
             order by 1"
                .to_owned(),
            json!([[10, 3], [20, 3], [30, 3], [40, 4]]),
        ),
        // What the key does decide may be selected all the same.
        (
            "select a.id, a.name, b.x from s.a join s.b on b.a = a.id group by a.id, b.x order by a.id, b.x".to_owned(),
            json!([[1, "one", 10], [1, "one", 20], [1, "one", 30], [2, "two", 40]]),
        ),
        (
            "select count(*) from (select b.id, count(distinct a.id) from s.a join s.a b on true group by a.id, b.id)"
                .to_owned(),
            json!([[4]]),
        ),
        // The optimizer makes an inner join of a full one, in which keys are keys again.
        (
            "select count(*) from (select a.id, c.id, count(distinct a.name) from s.a a full join s.a c on true \
             where a.id > 0 and c.id > 0 group by a.id, c.id)"
                .to_owned(),
            json!([[4]]),
        ),
        (
            "select count(*) from (select distinct id from (select distinct a.id, b.x from s.a join s.b on b.a = a.id))"
                .to_owned(),
            json!([[2]]),
        ),
    ] {
        assert_eq!(warehouse.sql(&sql).await, answer, "{sql}");
    }
}

#[tokio::test]
async fn a_key_is_not_believed_of_the_rows_that_recursion_adds() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema s").await;
    warehouse
        .sql("create table s.a (id int primary key not enforced) as values (1), (2)")
        .await;

    let steps = "with recursive r as (select id, 1 as n from s.a union all select id, n + 1 from r where n < 3)";
    for (sql, answer) in [
        (
            format!("{steps} select count(*) from (select distinct id from r)"),
            json!([[2]]),
        ),
        (
            format!("{steps} select id, count(*) from r group by id order by id"),
            json!([[1, 3], [2, 3]]),
        ),
        (
            format!("{steps} select id, n from r order by id, n desc limit 2"),
            json!([[1, 3], [1, 2]]),
        ),
    ] {
        assert_eq!(warehouse.sql(&sql).await, answer, "{sql}");
    }
}

#[tokio::test]
async fn a_filter_on_what_is_hidden_from_the_rules_still_prunes_files() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema s").await;
    warehouse
        .sql("create table s.a (id bigint primary key not enforced, l bigint[]) as values (1, [1, 3])")
        .await;
    warehouse.sql("insert into s.a values (1000, [5])").await;
    let bytes = async |sql: &str| {
        let price = warehouse.dry_run(sql).await.expect("a price");
        price["bytes_processed"].as_u64().expect("bytes")
    };

    let of_all = bytes("select id, u from (select id, unnest(l) as u from s.a)").await;
    let of_one = bytes("select id, u from (select id, unnest(l) as u from s.a) where id = 1000").await;

    assert!(of_one < of_all, "{of_one} of {of_all}");
}

#[tokio::test]
async fn a_window_counts_equal_rows_together_wherever_it_stands() {
    let warehouse = Warehouse::start().await;
    warehouse.sql("create schema s").await;
    warehouse
        .sql("create table s.a (id int primary key not enforced, v int) as values (1, 10), (2, 20)")
        .await;

    // Each row of the table comes once by itself and once in the sum of its group.
    let rollup = "select id, v, count(*) over (order by id) as c from s.a group by rollup(id, v)";
    assert_eq!(
        warehouse
            .sql(&format!(
                "select id, v, c from ({rollup}) where id is not null order by id, v nulls first"
            ))
            .await,
        json!([[1, null, 2], [1, 10, 2], [2, null, 4], [2, 20, 4]])
    );
    // What is stored is what is shown.
    warehouse.sql("create table s.d (id int, v int, c bigint)").await;
    warehouse.sql(&format!("insert into s.d {rollup}")).await;
    let shown = warehouse
        .sql(&format!("select * from ({rollup}) order by id, v, c"))
        .await;
    let stored = warehouse.sql("select * from s.d order by id, v, c").await;
    assert_eq!(stored.rows, shown.rows);
    assert_eq!(stored.rows.len(), 5);
}
