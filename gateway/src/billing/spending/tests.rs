use std::collections::BTreeMap;
use std::time::Duration;

use tempfile::TempDir;
use wasmhouse_storage::audit::{Actor, Who};
use wasmhouse_storage::catalog::{Catalog, Effect};
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::money::Cost;
use wasmhouse_storage::people::People;
use wasmhouse_storage::queries::{End, NewQuery, Queries, QueryState, Usage};

use super::*;

/// A project with a ledger, whose clock is a minute before midnight at the end of November.
struct World {
    _folder: TempDir,
    queries: Queries,
    clock: Clock,
    acme: ProjectId,
    spending: Spending,
}

impl World {
    async fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let clock = Clock::manual(Timestamp::from_micros(1_796_083_140_000_000));
        let url = format!("sqlite://{}/catalog.db", folder.path().display());
        let catalog = Catalog::open(&url, clock.clone()).await.expect("a catalog");
        let acme: ProjectId = "acme".parse().expect("a name");
        let people = People::new(&catalog);
        people
            .create_project(&acme, &[1; 32], &Actor::house())
            .await
            .expect("a project");
        let spending = Spending::new(Ledger::new(&catalog), clock.clone(), None, None);
        Self {
            _folder: folder,
            queries: Queries::new(&catalog),
            clock,
            acme,
            spending,
        }
    }

    fn query(&self) -> QueryId {
        self.clock.advance(Duration::from_millis(1));
        QueryId::new(self.clock.now())
    }

    /// Reserves, as a query of Ada's with the label of the red team does.
    async fn reserve(&self, budgets: &[Budget], query: &QueryId, cost: &str) -> Result<Vec<String>> {
        self.spending.refresh(&self.acme, budgets).await?;
        let labels = [("team".to_owned(), "red".to_owned())].into_iter();
        let scopes = scopes(Some("ada".to_owned()), labels);
        let cost = cost.parse().expect("money");
        let wanted = Reserved { scopes, cost, bytes: 0 };
        let due = self.spending.reserve(&self.acme, budgets, query, wanted, |_| true)?;
        Ok(due.iter().map(|spent| spent.line(true)).collect())
    }

    /// Writes the line of such a query that cost so much.
    async fn settle(&self, query: &QueryId, cost: &str) {
        let new = NewQuery {
            id: query.clone(),
            project: self.acme.clone(),
            asked_by: Actor {
                who: Who::Principal("ada".parse().expect("a name")),
                ..Actor::house()
            },
            request_id: None,
            fingerprint: String::new(),
            sql: "select 1".to_owned(),
            kind: "select".to_owned(),
            labels: BTreeMap::from([("team".to_owned(), "red".to_owned())]),
            owner: "gateway-1".to_owned(),
            lease_until: self.clock.now(),
            started: true,
        };
        let draft = self.queries.draft(new).expect("a query");
        let end = End {
            state: QueryState::Done,
            usage: Usage::default(),
            error: None,
            results: None,
            profile: None,
            effect: Effect::None,
            cost: Cost {
                amount: cost.parse().expect("money"),
                currency: "USD".to_owned(),
                prices: "1".to_owned(),
                items: Vec::new(),
                free: None,
            },
            receipt: None,
        };
        self.queries.create_ended(&draft, end).await.expect("it ends");
    }
}

fn budget(scope: &str, period: Period, amount: &str) -> Budget {
    Budget {
        scope: scope.parse().expect("a scope"),
        period,
        amount: amount.parse().expect("money"),
        warn_percent: 80,
    }
}

#[tokio::test]
async fn what_is_spent_and_what_is_on_its_way_is_never_more_than_a_budget() {
    for scope in ["project", "user:ada", "label:team:red"] {
        let world = World::new().await;
        let budgets = [budget(scope, Period::Day, "1"), budget("user:bob", Period::Day, "0")];
        let (first, second, third) = (world.query(), world.query(), world.query());

        assert_eq!(
            world.reserve(&budgets, &first, "0.5").await.expect("there is enough"),
            [] as [&str; 0]
        );
        let due = world.reserve(&budgets, &second, "0.4").await.expect("there is enough");
        assert_eq!(due, [format!("{scope}, day: 0.9 of 1")]);
        let refused = world.reserve(&budgets, &third, "0.2").await.expect_err("there is not");
        assert_eq!(
            refused.to_string(),
            format!(
                "the query would cost 0.2, and of the budget of {scope} for this day, 1, only 0.1 is left; nothing was read; it \
                 begins again at 2026-12-01T00:00:00Z"
            )
        );
        // Another attempt takes the place of the first, a line that of what was reserved, and what ends without cost leaves room.
        world
            .reserve(&budgets, &second, "0.4")
            .await
            .expect("it is the same query");
        world.settle(&first, "0.3").await;
        world.spending.release(&world.acme, &second);
        world.reserve(&budgets, &third, "0.7").await.expect("0.3 are spent");
        assert!(world.reserve(&budgets, &second, "0.1").await.is_err());
        world
            .reserve(&budgets, &second, "0")
            .await
            .expect("what costs nothing is let");
    }
}

#[tokio::test]
async fn a_day_and_a_month_begin_again_and_others_see_what_was_spent() {
    let world = World::new().await;
    let budgets = [
        budget("project", Period::Day, "1"),
        budget("project", Period::Month, "1.5"),
    ];
    let first = world.query();
    world.reserve(&budgets, &first, "1").await.expect("there is enough");
    world.settle(&first, "1").await;
    assert!(
        world.reserve(&budgets, &world.query(), "0.1").await.is_err(),
        "the day is spent"
    );

    // Midnight, and with it the month.
    world.clock.advance(Duration::from_secs(60));
    let second = world.query();
    world.reserve(&budgets, &second, "0.9").await.expect("it is December");
    world.settle(&second, "0.9").await;
    world.clock.advance(Duration::from_secs(24 * 3600));
    let refused = world
        .reserve(&budgets, &world.query(), "0.7")
        .await
        .expect_err("0.6 of December are left");
    assert!(
        refused.to_string().contains("for this month, 1.5, only 0.6 is left"),
        "{refused}"
    );

    // A server that has just started reads the month.
    let other = Spending::new(world.spending.0.ledger.clone(), world.clock.clone(), None, Some(1_000));
    other.refresh(&world.acme, &budgets).await.expect("the ledger is there");
    let spent: Vec<String> = other
        .spent(&world.acme, &budgets)
        .iter()
        .map(|spent| spent.line(true))
        .collect();
    assert_eq!(spent, ["project, day: 0 of 1", "project, month: 0.9 of 1.5"]);

    // Bytes of a day are bounded in the same way.
    let (query, another) = (world.query(), world.query());
    let bytes = |query: &QueryId, bytes| {
        let wanted = Reserved {
            scopes: HashSet::new(),
            cost: Money::ZERO,
            bytes,
        };
        other.reserve(&world.acme, &[], query, wanted, |_| true)
    };
    bytes(&query, 700).expect("there is room");
    bytes(&query, 800).expect("it is the same query");
    let refused = bytes(&another, 201).expect_err("there is not");
    let Error::TooOften { what, retry_after } = refused else {
        panic!("{refused}")
    };
    assert!(
        what.contains("process 201 bytes, and of the 1000 that the project may in a day only 200 are left"),
        "{what}"
    );
    assert!(retry_after > Duration::from_secs(23 * 3600), "the day has just begun");
    bytes(&another, 200).expect("what is left");
}

#[tokio::test]
async fn what_has_ended_counts_until_its_line_is_read_and_then_once() {
    let world = World::new().await;
    let budgets = [budget("project", Period::Month, "1")];
    let (first, second) = (world.query(), world.query());
    // Both were read up to here before either ran.
    world.reserve(&budgets, &first, "0").await.expect("nothing yet");
    let wanted = |cost: &str| Reserved {
        scopes: scopes(Some("ada".to_owned()), [].into_iter()),
        cost: cost.parse().expect("money"),
        bytes: 0,
    };
    let reserve = |query: &QueryId, cost| {
        world
            .spending
            .reserve(&world.acme, &budgets, query, wanted(cost), |_| false)
    };
    reserve(&first, "0.7").expect("there is enough");
    world.settle(&first, "0.7").await;
    world
        .spending
        .settled(&world.acme, &first, "0.7".parse().expect("money"), 0);

    let refused = reserve(&second, "0.4").expect_err("its line is not read yet, and it counts");
    assert!(
        refused.to_string().contains("for this month not so much is left"),
        "{refused}"
    );
    world
        .spending
        .refresh(&world.acme, &budgets)
        .await
        .expect("the ledger is there");
    assert!(reserve(&second, "0.4").is_err());
    reserve(&second, "0.3").expect("it counts once");

    // A budget of something else is added up from the beginning of the month.
    let more = [budgets[0].clone(), budget("user:ada", Period::Day, "1")];
    world
        .spending
        .refresh(&world.acme, &more)
        .await
        .expect("the ledger is there");
    let spent: Vec<String> = world
        .spending
        .spent(&world.acme, &more)
        .iter()
        .map(|spent| spent.line(true))
        .collect();
    assert_eq!(spent, ["project, month: 1 of 1", "user:ada, day: 1 of 1"]);

    // After midnight nobody is held to what was spent before, though nothing was read since.
    world.clock.advance(Duration::from_secs(120));
    world.spending.release(&world.acme, &second);
    reserve(&second, "1").expect("another month");
}
