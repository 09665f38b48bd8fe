//! What the gateway makes of a stranger's text: a statement, or an error that says why not. It never dies and never hangs.

use std::collections::VecDeque;

use datafusion::config::Dialect;
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::dialect as parsers;

use super::dialect::rules;
use super::patience::PatientDialect;
use super::{Kind, Limits, Statement, parse};
use crate::{Code, SqlError};

fn accepted(sql: &str) -> Statement {
    parse(sql, Dialect::Generic, &Limits::default()).unwrap_or_else(|error| panic!("{}: {error}", shortened(sql)))
}

/// Why a statement is refused. In the other dialects it may mean something, but they come home with it, too.
fn refused(sql: &str) -> SqlError {
    for dialect in dialects() {
        let _ = parse(sql, dialect, &Limits::default());
    }
    match parse(sql, Dialect::Generic, &Limits::default()) {
        Ok(_) => panic!("{} is accepted", shortened(sql)),
        Err(error) => error,
    }
}

fn dialects() -> impl Iterator<Item = Dialect> {
    Dialect::metadata().iter().map(|info| info.dialect)
}

fn shortened(sql: &str) -> String {
    sql.chars().take(120).collect()
}

/// What a statement reads, with how often.
fn reads(sql: &str) -> Vec<(String, u64)> {
    let reads = accepted(sql).reads;
    reads.iter().map(|read| (read.name.to_string(), read.uses)).collect()
}

/// `{first}{middle}{middle}…{last}`
fn repeated(first: &str, middle: &str, count: usize, last: &str) -> String {
    format!("{first}{}{last}", middle.repeat(count))
}

/// `{open}{open}…{inner}…{close}{close}`, behind `select`.
fn in_each_other(open: &str, count: usize, inner: &str, close: &str) -> String {
    format!("select {}{inner}{}", open.repeat(count), close.repeat(count))
}

#[test]
fn a_second_explain_is_refused_before_the_parser_calls_itself() {
    for explain in [
        "explain ",
        "explain analyze ",
        "explain (analyze) ",
        "explain format tree ",
        "/**/explain\n",
    ] {
        let error = refused(&repeated("", explain, 40_000, "select 1"));
        assert_eq!(error.code, Code::NotSupported, "{explain}: {error}");
    }

    let error = refused("explain explain select 1");
    assert_eq!((error.line, error.column), (Some(1), Some(9)));
}

#[test]
fn one_explain_is_one_and_a_column_may_be_called_so() {
    for sql in [
        "explain select 1",
        "explain analyze verbose select 1",
        "explain format tree select 1",
        "explain (select 1)",
        "explain select explain from t",
    ] {
        assert!(matches!(accepted(sql).kind, Kind::Explain), "{sql}");
    }
    assert!(matches!(
        accepted("select t.explain, t.explain as e from t").kind,
        Kind::Query
    ));
}

#[test]
fn types_in_each_other_are_bounded_in_every_bracket() {
    let nested = [
        format!(
            "select cast(1 as {}int{})",
            "nullable(".repeat(100_000),
            ")".repeat(100_000)
        ),
        format!(
            "select cast(1 as {}int{})",
            "lowcardinality(".repeat(60_000),
            ")".repeat(60_000)
        ),
        format!(
            "select cast(1 as {}int{})",
            "array<".repeat(100_000),
            ">".repeat(100_000)
        ),
        format!(
            "select cast(1 as {}int{})",
            "struct<a ".repeat(100_000),
            ">>".repeat(50_000)
        ),
        format!(
            "select cast(1 as {}int{})",
            "array<nullable(".repeat(50_000),
            ")>".repeat(50_000)
        ),
        format!(
            "select cast(1 as {}int{})",
            "nested(a ".repeat(100_000),
            ")".repeat(100_000)
        ),
        format!(
            "create table t (a {}int{})",
            "map(int, ".repeat(100_000),
            ")".repeat(100_000)
        ),
        format!("select cast(1 as int{})", "[]".repeat(500_000)),
    ];

    for sql in nested {
        let error = refused(&sql);
        assert_eq!(error.code, Code::TooComplex, "{}: {error}", shortened(&sql));
        assert!(error.line.is_some(), "{}: {error}", shortened(&sql));
    }
    accepted("select cast(a as array<struct<b array<int>, c struct<d int>>>) from t where a < 1 and array < 2");
    accepted("create table t (a array<array<int>>, b struct<c int, d array<varchar>>)");
}

#[test]
fn what_is_tried_twice_at_each_level_is_given_up() {
    for open in [
        "cast(",
        "try_cast(",
        "convert(",
        "case(",
        "trim(",
        "array(",
        "exists(",
        "position(",
        "{fn f(",
    ] {
        for count in [20, 40, 1_000] {
            // Some of these are functions of that name to the parser, and fine; that it comes back is what we ask.
            for sql in [
                in_each_other(open, count, "1", ")"),
                repeated("select ", open, count, ""),
                repeated("select * from t where a = ", open, count, "'x"),
            ] {
                for dialect in dialects() {
                    let _ = parse(&sql, dialect, &Limits::default());
                }
            }
        }
    }

    let error = refused(&in_each_other("cast(", 40, "1", ")"));
    assert_eq!(error.code, Code::TooComplex, "{error}");
    assert!(error.line.is_some(), "{error}");
}

#[test]
fn a_long_statement_does_not_buy_more_tries() {
    let filler = "1,".repeat(200_000);
    let literal = "x".repeat(400_000);

    let error = refused(&format!(
        "select {filler} {}'{literal}'{}",
        "cast(".repeat(40),
        ")".repeat(40)
    ));

    assert_eq!(error.code, Code::TooComplex, "{error}");
}

#[test]
fn brackets_in_from_are_tried_a_bounded_number_of_times() {
    let twice = repeated("select * from ", "((select * from ", 16, "t t t t");
    let often = repeated("select * from ", "(((((select * from ", 8, "t t t t");
    let listed = repeated("select * from t", ", ((select * from t", 16, " t t t");

    for sql in [twice, often, listed] {
        assert_eq!(refused(&sql).code, Code::TooComplex, "{sql}");
    }
    accepted(
        "select * from ((select 1 as a) union all (select 2)) x join ((select 1 as b) y join (select 2 as c) z on b = c) on a = b",
    );
    accepted(
        "select * from ((((((((a join b on a.i = b.i) join c on a.i = c.i) join d on a.i = d.i) join e on a.i = e.i) \
        join f on a.i = f.i) join g on a.i = g.i) join h on a.i = h.i) join i on a.i = i.i)",
    );
    accepted(&format!(
        "select 1{}{}",
        " union all ((select 2)".repeat(12),
        ")".repeat(12)
    ));
}

#[test]
fn a_word_that_calls_the_parser_again_may_follow_itself_a_few_times() {
    let error = refused(&repeated("select ", "interval ", 110_000, "'1 day'"));

    assert_eq!(error.code, Code::TooComplex, "{error}");
    accepted("select interval '1 day' + interval '2' hour, date '2026-01-01' - interval '1' month from t");
}

#[test]
fn a_mistake_in_a_few_functions_is_still_told_as_one() {
    let error = refused("select cast(cast(cast(cast(1 as int) as int) as) as int)");

    assert_eq!(error.code, Code::InvalidSql, "{error}");
    assert!(error.line.is_some(), "{error}");
}

#[test]
fn white_space_and_comments_cost_nothing() {
    let spaces = " ".repeat(500_000);
    let comments = "/* */".repeat(100_000);

    accepted(&format!("select{spaces}1{comments}+ 1"));
    let error = refused(&format!("select {}{spaces}1", "cast(".repeat(30)));
    assert!(matches!(error.code, Code::TooComplex | Code::InvalidSql), "{error}");
}

#[test]
fn a_patient_dialect_reads_as_it_does_without_patience() {
    let statements = [
        "select a, `b`, \"c\", 'd', e'f\\n', x'00', $1, $name, ?, :n from t where a between 1 and 2 or not b is distinct from 3",
        "select cast(a as bigint), a::int[], try_cast(a as date), extract(day from a), trim(both ' ' from a), a['b'][1]",
        "select {'a': 1, 'b': [1, 2]}, map {'a': 1}, struct(1 as a), array[1, 2], [1, 2], (1, 2), interval '1' day, date '2026-01-01'",
        "select sum(a) filter (where b) over (partition by c order by d rows between 1 preceding and current row) from t window w as (order by a)",
        "select * except (a), t.* exclude (b), * replace (a + 1 as a) from t qualify row_number() over (order by a) = 1",
        "from t select a group by all having a > 1 order by a desc nulls last limit 1 offset 2",
        "select * from (a join b using (i)) left join lateral (select 1) on true, unnest([1, 2]) as u, generate_series(1, 2) g",
        "with recursive r as (select 1 as n union all select n + 1 from r where n < 9) select * from r",
        "select a from t group by rollup(a, b), cube(c), grouping sets ((a), (b))",
        "select a -> 'b' ->> 'c', a @> b, a ~ 'x', a || b, a & b | c, a << 1 >> 2, a % 2 from t |> where a > 1",
        "values (1, 'a'), (2, null)",
        "create table if not exists t (a bigint not null, b decimal(10, 2) default 1, c struct<d int>) ",
        "create or replace view v (a) as select 1",
        "insert into t (a, b) select 1, 2",
        "explain (analyze, verbose) select 1",
        "copy (select 1) to 'x.csv' stored as csv",
        "show columns from t",
        "truncate table t",
        "select transform(array(1), x -> x + 1), 7 div 2, cast(1 as long), !true, `a b`, map('a', 1)",
        "select list_transform([1], lambda x: x + 1), 5!, [a] from [t u], 1_000, 'it\\'s', \"\"\"b\"\"\"",
        "select interval 1 day, 1::money, f(a => 1, b := 2, c: 3), a notnull, 'x' 'y', @@v, t..u from s..t",
        "select top 5 * from t where a in () and b like any ('x') -- no space\n limit 1, 2",
    ];

    for sql in statements {
        for dialect in dialects() {
            let patient = PatientDialect::new(rules(dialect), 10_000);
            let plain = rules(dialect);
            // What any expression may name is the one question that is answered otherwise.
            let names_by_expressions = plain.supports_named_fn_args_with_expr_name() && sql.contains("f(a => 1");
            if !names_by_expressions {
                assert_eq!(parsed(sql, &patient), parsed(sql, plain.as_ref()), "{dialect}: {sql}");
            }
        }
    }
}

fn parsed(sql: &str, dialect: &dyn parsers::Dialect) -> Result<VecDeque<Parsed>, String> {
    DFParserBuilder::new(sql)
        .with_dialect(dialect)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| error.to_string())
}

#[test]
fn what_a_dialect_reads_by_calling_itself_is_bounded() {
    for (dialect, sql) in [
        (Dialect::Snowflake, repeated("select * from a", " join b", 149_000, "")),
        (
            Dialect::Snowflake,
            repeated("select * from a", " left join b", 80_000, " on true"),
        ),
        (Dialect::Spark, repeated("select ", "map<int,", 130_000, "")),
        (Dialect::Spark, repeated("select cast(1 as ", "map<int,", 100_000, "")),
        (Dialect::Generic, repeated("select ", "interval year ", 74_000, "'1'")),
        (Dialect::PostgreSQL, repeated("select ", "interval(3) ", 74_000, "'1'")),
        (
            Dialect::PostgreSQL,
            repeated("select ", "interval day to second ", 40_000, "'1'"),
        ),
    ] {
        let error = parse(&sql, dialect, &Limits::default()).expect_err(&shortened(&sql));
        assert_eq!(error.code, Code::TooComplex, "{dialect}: {}: {error}", shortened(&sql));
    }
    accepted(
        "select interval '1' year, interval '1' day + interval '2' day between interval '1' hour and interval '3' hour",
    );
}

#[test]
fn arguments_in_each_other_are_read_once_in_every_dialect() {
    let sql = in_each_other("abs(", 20, "1", ")");

    for dialect in dialects() {
        parse(&sql, dialect, &Limits::default()).unwrap_or_else(|error| panic!("{dialect}: {error}"));
    }
}

#[test]
fn what_nobody_carries_out_is_refused_by_name() {
    for (dialect, sql, named) in [
        (Dialect::Generic, "select * from t tablesample (10)", "tablesample"),
        (Dialect::Generic, "select * from t prewhere a = 1", "prewhere"),
        (Dialect::Generic, "select * from t for update", "for update"),
        (
            Dialect::Databricks,
            "select * from t version as of 0",
            "earlier version",
        ),
        (
            Dialect::BigQuery,
            "select * from t for system_time as of '2026-01-01'",
            "earlier version",
        ),
        (Dialect::Redshift, "select a, b exclude b from t", "exclude"),
        (Dialect::MySQL, "select * from t partition (p)", "partition"),
        (Dialect::MySQL, "select sql_calc_found_rows a from t", "modifier"),
        (Dialect::ClickHouse, "explain select * from t format JSON", "format"),
        (
            Dialect::Generic,
            "create table n as select * from t tablesample (10)",
            "tablesample",
        ),
    ] {
        let error = parse(sql, dialect, &Limits::default()).expect_err(sql);
        assert_eq!(error.code, Code::NotSupported, "{sql}: {error}");
        assert!(error.message.contains(named) && error.line.is_some(), "{sql}: {error}");
    }
}

#[test]
fn nothing_that_begins_with_flush_ends_the_parser() {
    for sql in [
        "flush relay logs for channel",
        "explain flush relay logs for channel",
        "flush tables",
    ] {
        assert_eq!(refused(sql).code, Code::NotSupported, "{sql}");
    }
}

#[test]
fn a_view_keeps_its_query_as_it_was_written() {
    for (dialect, sql, kept) in [
        (
            Dialect::Generic,
            "create view v as select 'a''''b' as x;",
            "select 'a''''b' as x",
        ),
        (
            Dialect::MySQL,
            r"create view v as select 'x\\' as x, 'a\nb'",
            r"select 'x\\' as x, 'a\nb'",
        ),
        (
            Dialect::Generic,
            "create view \"ä\" (\"Ö\")\nas -- as\n  (select 'ü' as a) -- end",
            "select * from (-- as\n  (select 'ü' as a) -- end\n) as named(\"Ö\")",
        ),
        (
            Dialect::MsSQL,
            "create view v as select [a]]b] from t",
            "select [a]]b] from t",
        ),
        (
            Dialect::Generic,
            "create or replace view v as with x as (select 1 as n) select n from x",
            "with x as (select 1 as n) select n from x",
        ),
    ] {
        let statement = parse(sql, dialect, &Limits::default()).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let Kind::CreateView { query, .. } = statement.kind else {
            panic!("{sql} makes a view")
        };
        assert_eq!(query, kept, "{sql}");
        parse(&query, dialect, &Limits::default()).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

#[test]
fn a_chain_may_have_a_thousand_operators_and_no_more() {
    accepted(&repeated("select 1", " + 1", 999, ""));
    accepted(&repeated("select * from t where a = 0", " or a = 1", 999, ""));

    for operator in [
        "+ 1",
        "or a = 1",
        "|| 'a'",
        "::int",
        "overlaps a",
        "rlike 'a'",
        "member of (a)",
        "operator(+) 1",
    ] {
        let sql = repeated("select a ", &format!(" {operator}"), 1_100, "");
        let error = refused(&sql);
        assert_eq!(error.code, Code::TooComplex, "{operator}: {error}");
    }
}

#[test]
fn no_word_hides_how_long_a_chain_is() {
    let chains = [
        repeated("select 1", " is distinct from 1", 50_000, ""),
        repeated("select 1", " is not distinct from 1", 40_000, ""),
        repeated(
            "select case when 1 then 1 end",
            " + case when 1 then 1 else 2 end",
            30_000,
            "",
        ),
        repeated("select 1", " + case from when from then from end", 25_000, ""),
        repeated("select 1", " + from + where + select + join + union", 25_000, ""),
        repeated("select 1", " + t.from", 100_000, ""),
        repeated("select 1", " + interval from", 60_000, ""),
        repeated("select 1", " operator(+) from", 60_000, ""),
        repeated("select 1", " collate from + 1", 60_000, ""),
        repeated("select 1", " at time zone from", 50_000, ""),
        repeated("select 1", " like any from", 70_000, ""),
        repeated("select 1", " between from and from", 40_000, ""),
        repeated("select 1", " + sum(a) over from", 50_000, ""),
        repeated("select a", " + array < 1 or 1 > array", 40_000, ""),
        repeated(
            "select case when a then 1",
            " + case when interval end then 1 end",
            25_000,
            " end",
        ),
        repeated(
            "select 1",
            &format!(" or case {} + case when interval end then 1 end", "or 1 ".repeat(900)),
            200,
            "",
        ),
        repeated("select * from t", " pivot(sum(a) for b in (1))", 30_000, ""),
    ];

    for sql in chains {
        let error = refused(&sql);
        assert_eq!(error.code, Code::TooComplex, "{}: {error}", shortened(&sql));
    }
}

#[test]
fn chains_in_each_other_are_one_deep_tree() {
    let chain = " + 1".repeat(900);
    let three = format!("select ((1{chain}){chain}){chain}");
    let many = format!("select {}1{}", "(".repeat(40), format!("{chain})").repeat(40));

    assert_eq!(refused(&three).code, Code::TooComplex);
    assert_eq!(refused(&many).code, Code::TooComplex);
    accepted(&format!("select (1{chain}){chain}, (1{chain}){chain}"));
}

#[test]
fn what_is_long_and_not_deep_is_accepted() {
    let branches = repeated(
        "select case",
        " when a = 1 and b + 1 > 2 then c * 2",
        2_000,
        " else date end from t",
    );
    let cases = repeated(
        "select 1",
        ", case when a then name else value end as c",
        200,
        " from t",
    );
    let unions = repeated(
        "select a + 1 from t where a = 1",
        " union all select a + 1 from t where a = 1",
        249,
        "",
    );
    let values = repeated("insert into t values (-1, 'a'::date)", ", (-1, 'a'::date)", 20_000, "");
    let list = repeated("select * from t where a in (-1", ", -1", 100_000, ")");

    for sql in [branches, cases, unions, values, list] {
        accepted(&sql);
    }
}

#[test]
fn joins_are_counted_however_they_are_written() {
    accepted(&repeated("select * from t", ", t", 100, ""));
    accepted(&repeated("select * from t", " cross join t", 100, ""));

    let too_many = [
        repeated("select * from t", ", t", 101, ""),
        repeated("select * from (select 1) a", ", (select 1) b", 2_000, ""),
        repeated("select * from t", " cross join t", 101, ""),
        repeated("select * from (t join t on true)", ", (t join t on true)", 51, ""),
        repeated("create table c as select * from t", ", t", 101, ""),
        repeated("explain select * from t", ", t", 101, ""),
    ];
    for sql in too_many {
        assert_eq!(refused(&sql).code, Code::TooComplex, "{sql}");
    }
}

#[test]
fn a_name_for_a_query_counts_as_often_as_it_is_read() {
    assert_eq!(
        reads(
            "with a as (select * from t, u), b as (select * from a union all select * from a) select * from b, b as c, t"
        ),
        [("t".to_owned(), 5), ("u".to_owned(), 4)]
    );
    assert_eq!(
        reads(
            "with a as (with b as (select * from t) select * from b, b as c) select * from a, (select * from a) as d"
        ),
        [("t".to_owned(), 4)]
    );
}

#[test]
fn names_that_double_are_counted_and_not_written_out() {
    for first in [
        "select * from t",
        "select 1 as a",
        "select * from generate_series(1, 2)",
    ] {
        let mut sql = format!("with c0 as ({first})");
        for level in 1..=60 {
            sql.push_str(&format!(
                ", c{level} as (select * from c{0} union all select * from c{0})",
                level - 1
            ));
        }

        let error = refused(&format!("{sql} select * from c60"));

        assert_eq!(error.code, Code::TooComplex, "{first}: {error}");
    }
}

#[test]
fn a_megabyte_of_names_is_walked_once() {
    let tables: Vec<String> = (0..900).map(|n| format!("(select 1 from t{n})")).collect();
    let mut sql = format!("with c as (select {})", tables.join(", "));
    for n in 0..30_000 {
        sql.push_str(&format!(", d{n} as (select 1 from c)"));
    }

    let error = refused(&format!("{sql} select * from d1"));

    assert_eq!(error.code, Code::TooComplex, "{error}");
}

#[test]
fn a_name_that_nobody_reads_is_planned_and_so_needs_its_tables() {
    assert_eq!(reads("with a as (select * from t) select 1"), [("t".to_owned(), 1)]);
}

#[test]
fn a_name_means_the_query_only_where_it_is_in_scope() {
    // Without `recursive` a query does not know its own name.
    assert_eq!(
        reads("with t as (select * from t) select * from t"),
        [("t".to_owned(), 1)]
    );
    assert!(reads("with recursive t as (select 1 as n union all select n + 1 from t) select * from t").is_empty());
    // With it, a query does not know those that come later.
    assert_eq!(
        reads("with recursive a as (select * from b), b as (select 1) select * from a, b"),
        [("b".to_owned(), 1)]
    );
    assert_eq!(
        reads("with a as (select 1) select * from shop.a, a"),
        [("shop.a".to_owned(), 1)]
    );
}

#[test]
fn a_statement_that_would_replace_rows_is_refused_by_name() {
    let replace = refused("replace into t values (1)");
    let or_replace = refused("insert or replace into t values (1)");
    let or_ignore = refused("insert or ignore into t values (1)");

    for (error, name) in [
        (replace, "replace into"),
        (or_replace, "or replace"),
        (or_ignore, "or ignore"),
    ] {
        assert_eq!(error.code, Code::NotSupported, "{error}");
        assert!(error.message.contains(name), "{error}");
    }
    accepted("insert into t values (1)");
}

#[test]
fn a_view_cannot_keep_a_parameter() {
    for (sql, column) in [
        ("create view v as select * from t where a = $1", 44),
        ("create view v as select * from t where a = $day", 44),
        ("create view v as select * from t where a = ?", 44),
        ("create view v (a) as select * from (select 1 limit $1)", 52),
    ] {
        let error = refused(sql);
        assert_eq!(error.code, Code::NotSupported, "{sql}: {error}");
        assert_eq!((error.line, error.column), (Some(1), Some(column)), "{sql}");
    }
    accepted("create table c as select * from t where a = $1");
}

#[test]
fn what_show_cannot_do_says_what_to_write() {
    for sql in ["show schemas", "show databases"] {
        let error = refused(sql);
        assert_eq!(error.code, Code::NotSupported, "{error}");
        assert!(error.message.contains("information_schema.schemata"), "{error}");
    }
    assert_eq!(refused("show datafusion.runtime.temp_directory").code, Code::NotAllowed);
    assert_eq!(
        refused("show \"datafusion.runtime.x'; select 1; --\"").code,
        Code::NotAllowed
    );
    accepted("show all");
    accepted("show datafusion.execution.batch_size");
}

#[test]
fn statements_that_differ_in_values_only_are_alike() {
    let like = |sql: &str| accepted(sql).likeness;
    let one = like("select name from people where id = 7 and town in ('Brno', 'Wien')");

    for alike in [
        "SELECT name\nFROM people -- the one\nWHERE id = 12 AND town IN ('Rom')",
        "select name from people where id = $1 and town in ('a', 'b', 'c', 'd')",
    ] {
        assert_eq!(like(alike), one, "{alike}");
    }
    for other in [
        "select town from people where id = 7 and town in ('Brno', 'Wien')",
        "select \"Name\" from people where id = 7 and town in ('Brno', 'Wien')",
        "select name from people where id = 7 and town in ('Brno', town)",
    ] {
        assert_ne!(like(other), one, "{other}");
    }
}
