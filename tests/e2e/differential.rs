//! Queries that nobody thought of: made at random, and asked in ways between which nothing may differ.
//!
//! - A head alone and one with 1, 2, 3 and 7 further workers have the same rows.
//! - A table written in two files and the same rows written in seven, in another order, have the same rows.
//! - What a predicate lets through, what it does not, and what it does not know, are together what is there without it (ternary
//!   logic partitioning, Rigger and Su, OOPSLA 2020).
//!
//! `WASMHOUSE_RANDOM_QUERIES` says how many, `WASMHOUSE_RANDOM_SEED` which.

use std::env;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::Warehouse;
use crate::workers::THREE_WORKERS;

/// Every column may be NULL but the first.
const ROWS: &str = "select value as n, \
    case when value % 11 = 0 then null else value % 97 end as g, \
    case when value % 13 = 0 then null else cast((value * 7919) % 100003 as varchar) end as t, \
    case when value % 7 = 0 then null else cast(value as decimal(12, 2)) / 4 end as d from generate_series";

/// The same rows in two tables.
const TABLES: [&str; 2] = ["r.two", "r.seven"];

async fn house(settings: &str) -> Warehouse {
    let warehouse = Warehouse::start_with(settings).await;
    warehouse.dataset("r").await;
    warehouse.sql(&format!("create table r.two as {ROWS}(1, 120000)")).await;
    warehouse
        .sql(&format!("insert into r.two {ROWS}(120001, 200000)"))
        .await;
    warehouse
        .sql("create table r.seven as select * from r.two where n % 7 = 3 order by n desc")
        .await;
    for rest in [0, 6, 2, 1, 5, 4] {
        warehouse
            .sql(&format!(
                "insert into r.seven select * from r.two where n % 7 = {rest} order by t"
            ))
            .await;
    }
    let names = "select value as g, 'group ' || value as name from generate_series(0, 80)";
    warehouse.sql(&format!("create table r.names as {names}")).await;
    warehouse
}

fn number_from(name: &str, otherwise: u64) -> u64 {
    let text = env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Makes queries. `{T}` stands for the table.
struct Maker(StdRng);

impl Maker {
    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.0.random_range(0..choices.len())]
    }

    fn predicate(&mut self) -> String {
        let number = self.0.random_range(1..200_000);
        let group = self.0.random_range(0..97);
        match self.0.random_range(0..10) {
            0 => format!("a.n > {number}"),
            1 => format!("a.g = {group}"),
            2 => format!("a.g <> {group} and a.n % 3 = 1"),
            3 => format!("a.t like '%{}%'", group % 10),
            4 => format!("a.d between {} and {}", number / 8, number / 3),
            5 => format!("a.g in ({group}, {}, null)", group / 2),
            6 => format!("coalesce(a.g, -1) < {group} or a.t is null"),
            7 => format!("a.g in (select b.g from r.names b where b.g % 5 = {})", group % 5),
            8 => format!("a.g not in (select nullif(b.g, {group}) from r.names b) or a.n < {number}"),
            _ => format!("case when a.g > {group} then a.d > {} else a.t > '5' end", number / 4),
        }
    }

    fn from(&mut self) -> String {
        match self.0.random_range(0..5) {
            0 => "{T} a join r.names b on a.g = b.g".to_owned(),
            1 => "{T} a left join r.names b on a.g = b.g and b.g < 40".to_owned(),
            2 => {
                "{T} a join (select g, max(n) as m from {T} group by g) b on a.g = b.g and a.n > b.m - 4000".to_owned()
            }
            _ => "{T} a".to_owned(),
        }
    }

    fn aggregate(&mut self) -> String {
        let function = self.one_of(&[
            "count(*)",
            "count(a.t)",
            "sum(a.n)",
            "sum(a.d)",
            "min(a.t)",
            "max(a.d)",
            "count(distinct a.g)",
            "count(distinct a.t)",
            "sum(case when a.t is null then 1 else 0 end)",
            "bit_xor(a.n)",
        ]);
        function.to_owned()
    }

    /// A query whose rows are all of what its `where` lets through.
    fn plain(&mut self) -> String {
        let columns = self.one_of(&["a.n, a.t", "a.g, a.n", "a.n, a.d * 2, a.g + 1", "a.n, upper(a.t), a.d"]);
        let from = self.from();
        // Not all rows: what is compared is carried through HTTP.
        let some = self.0.random_range(0..50);
        format!("select {columns} from {from} where a.n % 50 = {some}")
    }

    fn query(&mut self) -> String {
        let (from, predicate) = (self.from(), self.predicate());
        match self.0.random_range(0..6) {
            0 | 1 => {
                let key = self.one_of(&["a.g", "a.n % 10", "length(a.t)", "a.g, a.n % 2"]);
                let (one, two) = (self.aggregate(), self.aggregate());
                let having = self.one_of(&["", " having count(*) > 10", " having max(a.n) % 2 = 0"]);
                format!("select {key}, {one} as one, {two} as two from {from} where {predicate} group by {key}{having}")
            }
            2 => {
                let (one, two) = (self.aggregate(), self.aggregate());
                format!("select {one} as one, {two} as two from {from} where {predicate}")
            }
            3 => {
                let function = self.one_of(&["row_number()", "rank()", "lag(a.n)", "sum(a.n)", "count(a.t)"]);
                let limit = self.0.random_range(1..300);
                format!(
                    "select a.n, {function} over (partition by a.g order by a.n) as w from {from} where {predicate} \
                     order by a.n limit {limit}"
                )
            }
            4 => {
                let other = self.predicate();
                let operation = self.one_of(&["union all", "union", "intersect", "except"]);
                format!(
                    "select a.g, a.n % 100 as m from {{T}} a where {predicate} {operation} \
                     select a.g, a.n % 100 as m from {{T}} a where {other}"
                )
            }
            _ => {
                let limit = self.0.random_range(1..200);
                format!(
                    "select distinct a.g, a.n % 5 as m from {from} where {predicate} order by m desc, a.g limit {limit}"
                )
            }
        }
    }
}

/// Every query that reads anything has so many workers beside its head.
fn with_further(workers: usize) -> String {
    let all = workers + 1;
    format!(
        "[workers]\nmax = {all}\nmax_per_project = {all}\nthreads = 1\n[queries]\nworkers_max = {all}\nmib_per_worker = 0\n"
    )
}

/// The rows of a query, in an order of their own.
async fn rows(warehouse: &Warehouse, sql: &str) -> Vec<Vec<Value>> {
    let mut rows = warehouse.sql(sql).await.rows;
    rows.sort_by_cached_key(|row| json!(row).to_string());
    rows
}

#[tokio::test]
async fn the_number_of_workers_and_of_files_changes_no_row_of_any_query() {
    let (queries, seed) = (
        number_from("WASMHOUSE_RANDOM_QUERIES", 40),
        number_from("WASMHOUSE_RANDOM_SEED", 8841),
    );
    println!("{queries} queries, WASMHOUSE_RANDOM_SEED={seed}");
    let alone = house("").await;
    let mut crews = Vec::new();
    for further in [1, 2, 3, 7] {
        crews.push((further, house(&with_further(further)).await));
    }
    let mut maker = Maker(StdRng::seed_from_u64(seed));
    let mut with_rows = 0;

    for _ in 0..queries {
        let query = maker.query();
        let [two, seven] = TABLES.map(|table| query.replace("{T}", table));
        let expected = rows(&alone, &two).await;
        for (further, crew) in &crews {
            assert_eq!(rows(crew, &two).await, expected, "{further} further workers: {two}");
            let seven_files = rows(crew, &seven).await;
            assert_eq!(seven_files, expected, "{further} further workers, seven files: {seven}");
        }
        with_rows += u64::from(!expected.is_empty());
    }

    assert!(
        with_rows * 2 > queries,
        "queries that have no rows show nothing: {with_rows} have some"
    );
}

#[tokio::test]
async fn a_predicate_its_contrary_and_what_it_does_not_know_are_together_everything() {
    let (queries, seed) = (
        number_from("WASMHOUSE_RANDOM_QUERIES", 40),
        number_from("WASMHOUSE_RANDOM_SEED", 8841),
    );
    println!("{queries} queries, WASMHOUSE_RANDOM_SEED={seed}");
    let crew = house(THREE_WORKERS).await;
    let mut maker = Maker(StdRng::seed_from_u64(seed));

    for number in 0..queries {
        let (plain, predicate) = (maker.plain(), maker.predicate());
        let plain = plain.replace("{T}", TABLES[number as usize % 2]);
        let everything = rows(&crew, &plain).await;
        let mut together = Vec::new();
        for part in ["", "not ", "null is "] {
            let predicate = match part {
                "null is " => format!("({predicate}) is null"),
                other => format!("{other}({predicate})"),
            };
            together.extend(crew.sql(&format!("{plain} and {predicate}")).await.rows);
        }
        together.sort_by_cached_key(|row| json!(row).to_string());
        assert_eq!(together, everything, "{plain}, split by {predicate}");
    }
}
