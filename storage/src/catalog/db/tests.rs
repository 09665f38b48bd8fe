//! The world of the tests: a catalog of its own on every database at hand.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::audit::{Actor, Who};
use crate::catalog::{Catalog, Effect, TableRecord};
use crate::ids::{KeyId, QueryId, TableName};
use crate::ledger::Ledger;
use crate::money::{Cost, Free};
use crate::people::People;
use crate::queries::{Created, End, NewQuery, Queries, QueryRecord, QueryState, Usage};

/// A PostgreSQL server to test on as well, by URL. Each world is a schema of its own in it.
const POSTGRES: &str = "WASMHOUSE_TEST_POSTGRES";

/// A fresh catalog with the project `acme` and its dataset `shop`, on a clock that stands still.
pub(crate) struct World {
    pub(crate) catalog: Catalog,
    pub(crate) queries: Queries,
    pub(crate) ledger: Ledger,
    pub(crate) people: People,
    pub(crate) clock: Clock,
    pub(crate) acme: ProjectId,
    pub(crate) url: String,
    home: Home,
}

enum Home {
    Directory(#[expect(dead_code, reason = "the directory lives as long as this does")] TempDir),
    Schema { server: String, name: String },
}

/// One world on SQLite, and one on PostgreSQL where there is one.
pub(crate) async fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    let directory = TempDir::new().expect("a temporary directory");
    let url = format!("sqlite://{}/catalog.db", directory.path().display());
    worlds.push(World::new(url, Home::Directory(directory)).await);

    if let Ok(server) = std::env::var(POSTGRES) {
        let name = format!("wh_test_{:016x}", rand::random::<u64>());
        on_server(&server, format!("create schema {name}")).await;
        let separator = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{separator}options[search_path]={name}");
        worlds.push(World::new(url, Home::Schema { server, name }).await);
    }
    worlds
}

impl World {
    async fn new(url: String, home: Home) -> Self {
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let catalog = Catalog::open(&url, clock.clone()).await.expect("a catalog that opens");
        let acme: ProjectId = "acme".parse().expect("a name");
        let people = People::new(&catalog);
        people
            .create_project(&acme, &[1; 32], &Actor::house())
            .await
            .expect("a project");
        catalog
            .create_dataset(&acme, &"shop".parse().expect("a name"))
            .await
            .expect("a dataset");
        let (queries, ledger) = (Queries::new(&catalog), Ledger::new(&catalog));
        Self {
            catalog,
            queries,
            ledger,
            people,
            clock,
            acme,
            url,
            home,
        }
    }

    /// One more project.
    pub(crate) async fn project(&self, name: &ProjectId) {
        let hash = *blake3::hash(name.as_str().as_bytes()).as_bytes();
        let created = self.people.create_project(name, &hash, &Actor::house()).await;
        created.expect("a new project");
    }

    pub(crate) async fn close(self) {
        self.catalog.close().await;
        if let Home::Schema { server, name } = self.home {
            on_server(&server, format!("drop schema {name} cascade")).await;
        }
    }

    /// Something that only a person with the database's password can do.
    pub(crate) async fn tamper(&self, sql: &'static str) -> Result<u64, sqlx::Error> {
        let mut connection = self.catalog.db().writer().await.expect("a connection");
        Ok(connection.execute(sql).await?.rows_affected())
    }

    /// Lets go of what forbids changes to the ledger.
    pub(crate) async fn unlock_ledger(&self) {
        let triggers = match self.home {
            Home::Directory(_) => "drop trigger ledger_never_changes; drop trigger ledger_never_shrinks",
            Home::Schema { .. } => {
                "drop trigger ledger_never_changes on ledger; drop trigger ledger_never_shrinks on ledger"
            }
        };
        self.tamper(triggers).await.expect("the triggers are there");
    }

    /// A query of acme's, not recorded yet.
    pub(crate) fn new_query(&self, sql: &str) -> NewQuery {
        NewQuery {
            id: QueryId::new(self.clock.now()),
            project: self.acme.clone(),
            asked_by: asker(),
            request_id: None,
            fingerprint: sql.to_owned(),
            sql: sql.to_owned(),
            kind: "select".to_owned(),
            labels: BTreeMap::new(),
            owner: "gateway-1".to_owned(),
            lease_until: self.clock.now().plus(Duration::from_secs(30)),
            started: true,
        }
    }

    /// A running query of acme's.
    pub(crate) async fn running(&self, sql: &str) -> QueryRecord {
        // Ids are ordered by the millisecond.
        self.clock.advance(Duration::from_millis(1));
        match self
            .queries
            .create(self.new_query(sql))
            .await
            .expect("a query that is recorded")
        {
            Created::New(record) => record,
            Created::Existing(record) => panic!("{} is not new", record.id),
        }
    }

    /// Creates a table as a query would, from the reservation to the end.
    pub(crate) async fn table(&self, name: &str) -> TableRecord {
        let query = self.running("create table").await;
        let name: TableName = name.parse().expect("a name");
        let table = self
            .catalog
            .reserve_table(&self.acme, &name, &query.id)
            .await
            .expect("a free name");
        self.queries
            .end(&query.id, done(publish(&table)))
            .await
            .expect("a published table");
        table
    }
}

/// Ada, who asks from somewhere.
pub(crate) fn asker() -> Actor {
    Actor {
        who: Who::Principal("ada@example.com".parse().expect("a name")),
        key: Some(KeyId::of_hash(&[7; 32])),
        token: Some("t-1".to_owned()),
        address: Some("203.0.113.9".parse().expect("an address")),
    }
}

pub(crate) fn publish(table: &TableRecord) -> Effect {
    Effect::Publish {
        uid: table.uid.clone(),
        version: 0,
        schema: "{}".to_owned(),
    }
}

fn why(state: QueryState) -> Free {
    match state {
        QueryState::Cancelled => Free::Cancelled,
        QueryState::Abandoned => Free::Abandoned,
        QueryState::Lost => Free::Lost,
        _ => Free::Failed,
    }
}

pub(crate) fn cost(amount: &str, free: Option<Free>) -> Cost {
    Cost {
        amount: amount.parse().expect("money"),
        currency: "USD".to_owned(),
        prices: "test".to_owned(),
        items: Vec::new(),
        free,
    }
}

pub(crate) fn done(effect: Effect) -> End {
    let usage = Usage {
        bytes_processed: 1_000,
        rows_returned: 1,
        ..Usage::default()
    };
    End {
        state: QueryState::Done,
        usage,
        error: None,
        results: None,
        profile: None,
        effect,
        cost: cost("0.25", None),
        receipt: None,
    }
}

pub(crate) fn unbilled(state: QueryState) -> End {
    End {
        state,
        usage: Usage::default(),
        error: None,
        results: None,
        profile: None,
        effect: Effect::None,
        cost: cost("0", Some(why(state))),
        receipt: None,
    }
}

async fn on_server(server: &str, sql: String) {
    sqlx::any::install_default_drivers();
    let pool = AnyPoolOptions::new()
        .max_connections(1)
        .connect(server)
        .await
        .expect("the server answers");
    pool.execute(sqlx::AssertSqlSafe(sql))
        .await
        .expect("a schema of our own");
    pool.close().await;
}

#[tokio::test]
async fn a_catalog_that_is_opened_again_is_the_same() {
    for world in worlds().await {
        let table = world.table("shop.sales").await;

        let again = Catalog::open(&world.url, world.clock.clone())
            .await
            .expect("a catalog that opens");

        let relations = again.relations(&world.acme, None).await.expect("relations");
        assert_eq!(
            relations.iter().map(|relation| relation.name()).collect::<Vec<_>>(),
            [&table.name]
        );
        again.close().await;
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_catalog_may_be_opened_by_many_at_once() {
    // SQLite tells one in a hundred of them that the file is locked.
    for _ in 0..20 {
        let directory = TempDir::new().expect("a temporary directory");
        let url = format!("sqlite://{}/catalog.db", directory.path().display());

        let opened = futures::future::join_all((0..8).map(|_| Catalog::open(&url, Clock::System))).await;

        for catalog in opened {
            catalog.expect("a catalog that opens").close().await;
        }
    }
}

#[tokio::test]
async fn a_catalog_that_would_not_last_is_refused() {
    for url in [
        "sqlite::memory:",
        "sqlite://x.db?mode=memory",
        "mysql://localhost/x",
        "",
        "catalog.db",
    ] {
        let refused = Catalog::open(url, Clock::System).await;

        assert!(matches!(refused, Err(Error::Invalid(_))), "{url} was opened");
    }
}

#[tokio::test]
async fn a_password_in_the_url_stays_out_of_the_message() {
    let refused = Catalog::open("oracle://me:secret@host/x", Clock::System)
        .await
        .expect_err("no such database");

    assert!(!refused.to_string().contains("secret"), "{refused}");
}

#[tokio::test]
async fn a_catalog_on_postgresql_is_reached_over_tls() {
    let Ok(server) = std::env::var(POSTGRES) else { return };
    let separator = if server.contains('?') { '&' } else { '?' };
    let url = format!("{server}{separator}sslmode=require");

    let pool = AnyPoolOptions::new();
    sqlx::any::install_default_drivers();
    let mut connection = pool
        .connect(&url)
        .await
        .expect("the server knows TLS")
        .acquire()
        .await
        .expect("a connection");
    let row = sqlx::query("select cast(ssl as int) from pg_stat_ssl where pid = pg_backend_pid()")
        .fetch_one(&mut *connection)
        .await
        .expect("a row");

    assert_eq!(row.get::<i32, _>(0), 1);
}
