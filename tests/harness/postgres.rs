//! A catalog on PostgreSQL, where there is one to test on.

use sqlx::{Connection, Executor, PgConnection};

/// A PostgreSQL server, by URL; `make test` lends one. Each test has a schema of its own in it.
const SERVER: &str = "WASMHOUSE_TEST_POSTGRES";

/// The URL of a new catalog, or none without a server.
pub(crate) async fn new_catalog() -> Option<String> {
    let server = std::env::var(SERVER).ok()?;
    let name = format!("wh_test_{:016x}", rand::random::<u64>());
    let mut connection = PgConnection::connect(&server).await.expect("the server that was lent");
    connection
        .execute(sqlx::AssertSqlSafe(format!("create schema {name}")))
        .await
        .expect("a schema of a name that nobody has");
    let separator = if server.contains('?') { '&' } else { '?' };
    Some(format!("{server}{separator}options[search_path]={name}"))
}
