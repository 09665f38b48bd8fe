//! The tables that DataFusion's own runner makes before some files, in Rust. These are the ones that SQL can make, too.
//!
//! A table of ours holds the values of a dictionary and not the dictionary, and microseconds where there are nanoseconds;
//! what depends on the difference fails.

/// A dataset besides `public`, and the statements that make the tables.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    pub(crate) dataset: Option<&'static str>,
    pub(crate) statements: Vec<String>,
}

/// What is there before the first record of a file.
pub(crate) fn tables(file: &str) -> Registered {
    let statements: &[&str] = match file {
        "cte.slt" => &[
            "create table strict_schema.orders (order_id int not null)",
            "insert into strict_schema.orders values (1), (2)",
        ],
        "dictionary_struct.slt" => &DICTIONARIES,
        "joins.slt" => &[
            "create table test_partition_table (c1 bigint not null, c2 bigint not null, c3 boolean not null)",
            // The first line of the file has a row, and is taken for names.
            "insert into test_partition_table select 0, value, value % 2 = 0 from generate_series(1, 10)",
        ],
        "map.slt" => &[
            "create table table_with_map as select cast(null as bigint) as int_field, map([1], [2]) as map_field where false",
        ],
        "arrow_field.slt" | "metadata.slt" => &METADATA,
        "range_partitioning.slt" => {
            return Registered {
                dataset: None,
                statements: ranges(),
            };
        }
        _ => &[],
    };
    Registered {
        dataset: (file == "cte.slt").then_some("strict_schema"),
        statements: statements.iter().map(|sql| (*sql).to_owned()).collect(),
    }
}

const DICTIONARIES: [&str; 2] = [
    "create table dict_struct_table as \
     select named_struct('name', name, 'id', cast(id as int)) as dict_struct, \
     named_struct('name', name, 'id', cast(id as int)) as plain_struct \
     from (values ('Alice', 1), ('Bob', 2), ('Carol', 3), ('Alice', 1), ('Bob', 2)) as rows_of(name, id)",
    "create table dict_struct_nullable as \
     select case when name is not null then named_struct('name', name, 'id', cast(id as int)) end as ds \
     from (values ('X', 10), (null, null), ('Y', 20), (null, null)) as rows_of(name, id)",
];

const METADATA: [&str; 6] = [
    "create table table_with_metadata (id int, name varchar, l_name varchar, ts timestamp not null, \
     nonnull_name varchar not null)",
    "insert into table_with_metadata values (1, null, null, '2020-09-08T13:42:29.190855', 'no_foo'), \
     (null, 'bar', 'l_bar', '2020-09-08T13:42:29.190855', 'no_bar'), \
     (3, 'baz', 'l_baz', '2020-09-08T13:42:29.190855', 'no_baz')",
    "create table larger_table (a int not null)",
    "insert into larger_table values (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)",
    "create table smaller_table (b int not null)",
    "insert into smaller_table values (1)",
];

/// The tables that are made of ranges there, and of the same rows here.
fn ranges() -> Vec<String> {
    const ROWS: &str = "(1, 1, 10), (5, 2, 50), (10, 1, 100), (15, 2, 150), (20, 1, 200), (25, 2, 250), (30, 1, 300), \
                        (35, 2, 350)";
    const SPARSE_ROWS: &str = "(5, 2, 50), (8, 3, 80), (10, 1, 100), (20, 1, 200), (30, 1, 300), (40, 4, 400)";
    let tables = [
        ("range_partitioned", ROWS),
        ("range_partitioned_shifted", ROWS),
        ("range_partitioned_narrow", ROWS),
        ("range_partitioned_sparse", SPARSE_ROWS),
        ("unbounded_range_like", ROWS),
        ("unbounded_range_like_shifted", ROWS),
    ];
    let mut statements = Vec::new();
    for (name, rows) in tables {
        let columns = "range_key int not null, non_range_key int not null, value int not null";
        statements.push(format!("create table {name} ({columns})"));
        statements.push(format!("insert into {name} values {rows}"));
    }
    statements
}
