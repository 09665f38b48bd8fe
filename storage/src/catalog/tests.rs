use std::time::Duration;

use futures::future::join_all;

use super::db::tests::{World, done, publish, unbilled, worlds};
use super::*;
use crate::audit::Actor;
use crate::queries::QueryState;

fn name(text: &str) -> TableName {
    text.parse().expect("a name")
}

fn view(sql: &str) -> View {
    View {
        sql: sql.to_owned(),
        dialect: "spark".to_owned(),
        default_dataset: Some("shop".parse().expect("a name")),
        columns: "[]".to_owned(),
        depends: vec![name("shop.sales")],
    }
}

async fn names_in(world: &World) -> Vec<String> {
    let relations = world.catalog.relations(&world.acme, None).await.expect("relations");
    relations.iter().map(|relation| relation.name().to_string()).collect()
}

#[tokio::test]
async fn a_reserved_table_is_seen_only_after_its_query_ended() {
    for world in worlds().await {
        let query = world.running("create table").await;
        let table = world
            .catalog
            .reserve_table(&world.acme, &name("shop.sales"), &query.id)
            .await
            .expect("free");
        assert_eq!(
            world
                .catalog
                .relation(&world.acme, &table.name)
                .await
                .expect("an answer"),
            None
        );

        world
            .queries
            .end(&query.id, done(publish(&table)))
            .await
            .expect("an end");

        let Some(Relation::Table(live)) = world
            .catalog
            .relation(&world.acme, &table.name)
            .await
            .expect("an answer")
        else {
            panic!("the table is not there");
        };
        assert_eq!(
            live,
            TableRecord {
                state: TableState::Live,
                schema: "{}".to_owned(),
                ..table
            }
        );
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_queries_that_create_one_table_one_wins() {
    for world in worlds().await {
        let sales = name("shop.sales");
        let mut writes = Vec::new();
        for _ in 0..8 {
            let query = world.running("create table").await;
            let table = world
                .catalog
                .reserve_table(&world.acme, &sales, &query.id)
                .await
                .expect("nobody has it yet");
            writes.push((query, table));
        }

        let ends = writes
            .iter()
            .map(|(query, table)| world.queries.end(&query.id, done(publish(table))));
        let ends = join_all(ends).await;

        let winners: Vec<_> = ends
            .iter()
            .zip(&writes)
            .filter(|(end, _)| end.is_ok())
            .map(|(_, (_, t))| t)
            .collect();
        assert_eq!(winners.len(), 1);
        for end in ends.iter().filter_map(|end| end.as_ref().err()) {
            assert_eq!(end.to_string(), "table shop.sales already exists");
        }
        let live = world.catalog.relation(&world.acme, &sales).await.expect("an answer");
        assert!(matches!(live, Some(Relation::Table(live)) if live.uid == winners[0].uid));
        assert_eq!(
            world.ledger.lines(&world.acme, 0, 100).await.expect("lines").len(),
            1,
            "the losers pay nothing"
        );
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_reserved_at_once_live_in_different_places() {
    for world in worlds().await {
        let query = world.running("create table").await;
        let sales = name("shop.sales");

        let reserved = (0..8).map(|_| world.catalog.reserve_table(&world.acme, &sales, &query.id));
        let reserved = join_all(reserved).await;

        let mut generations: Vec<_> = reserved
            .into_iter()
            .map(|table| table.expect("free").generation)
            .collect();
        generations.sort_unstable();
        assert_eq!(generations, [1, 2, 3, 4, 5, 6, 7, 8]);
        world.close().await;
    }
}

#[tokio::test]
async fn a_table_that_is_created_again_lives_in_another_place() {
    for world in worlds().await {
        let shop = "shop".parse().expect("a name");
        let first = world.table("shop.sales").await;
        world
            .catalog
            .drop_relation(&world.acme, &first.name, RelationKind::Table)
            .await
            .expect("dropped");
        let second = world.table("shop.sales").await;
        world
            .catalog
            .drop_dataset(&world.acme, &shop, true)
            .await
            .expect("dropped");
        world.catalog.create_dataset(&world.acme, &shop).await.expect("created");
        let third = world.table("shop.sales").await;

        assert_eq!([first.generation, second.generation, third.generation], [1, 2, 3]);
        assert_ne!(first.location, second.location);
        assert_ne!(second.location, third.location);
        world.close().await;
    }
}

#[tokio::test]
async fn a_name_means_one_thing_or_nothing() {
    for world in worlds().await {
        let (sales, best) = (name("shop.sales"), name("shop.best"));
        world.table("shop.sales").await;
        world
            .catalog
            .create_view(&world.acme, &best, &view("select 1"), false)
            .await
            .expect("free");
        let query = world.running("create table").await;

        let table_over_view = world
            .catalog
            .reserve_table(&world.acme, &best, &query.id)
            .await
            .expect_err("taken");
        let view_over_table = world
            .catalog
            .create_view(&world.acme, &sales, &view("x"), true)
            .await
            .expect_err("taken");
        let view_over_view = world
            .catalog
            .create_view(&world.acme, &best, &view("x"), false)
            .await
            .expect_err("taken");
        let wrong_kind = world
            .catalog
            .drop_relation(&world.acme, &best, RelationKind::Table)
            .await
            .expect_err("a view");

        assert_eq!(table_over_view.to_string(), "view shop.best already exists");
        assert_eq!(view_over_table.to_string(), "table shop.sales already exists");
        assert_eq!(view_over_view.to_string(), "view shop.best already exists");
        assert_eq!(wrong_kind.to_string(), "shop.best is a view, not a table");
        world.close().await;
    }
}

#[tokio::test]
async fn a_view_can_be_replaced_and_dropped() {
    for world in worlds().await {
        let best = name("shop.best");
        world
            .catalog
            .create_view(&world.acme, &best, &view("select 1"), true)
            .await
            .expect("free");
        world
            .catalog
            .create_view(&world.acme, &best, &view("select 2"), true)
            .await
            .expect("replaced");

        let found = world.catalog.relation(&world.acme, &best).await.expect("an answer");
        let Some(Relation::View(dropped)) = found else {
            panic!("it is a view")
        };
        world
            .catalog
            .drop_relation(&world.acme, &best, RelationKind::View)
            .await
            .expect("dropped");

        let View {
            sql,
            dialect,
            default_dataset,
            columns,
            depends,
        } = view("select 2");
        assert_eq!(dropped.sql, sql);
        assert_eq!(dropped.dialect, dialect);
        assert_eq!(dropped.default_dataset, default_dataset);
        assert_eq!(dropped.columns, columns);
        assert_eq!(dropped.depends, depends);
        assert_eq!(names_in(&world).await, [""; 0]);
        let gone = world
            .catalog
            .drop_relation(&world.acme, &best, RelationKind::View)
            .await
            .expect_err("gone");
        assert_eq!(gone.to_string(), "no view named shop.best");
        world.close().await;
    }
}

#[tokio::test]
async fn names_are_resolved_in_the_order_of_the_question() {
    for world in worlds().await {
        let sales = world.table("shop.sales").await;
        world
            .catalog
            .create_dataset(&world.acme, &"old".parse().expect("a name"))
            .await
            .expect("created");
        let old_sales = world.table("old.sales").await;
        let wanted = [
            name("shop.none"),
            name("old.sales"),
            name("none.sales"),
            name("shop.sales"),
            name("old.sales"),
        ];

        let found = world.catalog.resolve(&world.acme, &wanted).await.expect("an answer");

        let found: Vec<_> = found
            .iter()
            .map(|relation| match relation {
                Some(Relation::Table(table)) => Some(&table.uid),
                _ => None,
            })
            .collect();
        assert_eq!(
            found,
            [None, Some(&old_sales.uid), None, Some(&sales.uid), Some(&old_sales.uid)]
        );
        assert_eq!(world.catalog.resolve(&world.acme, &[]).await.expect("an answer"), []);
        assert_eq!(names_in(&world).await, ["old.sales", "shop.sales"]);
        let shop = "shop".parse().expect("a name");
        assert_eq!(
            world
                .catalog
                .relations(&world.acme, Some(&shop))
                .await
                .expect("relations")
                .len(),
            1
        );
        world.close().await;
    }
}

#[tokio::test]
async fn a_project_sees_only_its_own() {
    for world in worlds().await {
        let other: ProjectId = "other".parse().expect("a name");
        world.project(&other).await;
        let sales = world.table("shop.sales").await;

        assert_eq!(
            world.catalog.relation(&other, &sales.name).await.expect("an answer"),
            None
        );
        assert_eq!(
            world
                .catalog
                .resolve(&other, std::slice::from_ref(&sales.name))
                .await
                .expect("an answer"),
            [None]
        );
        assert_eq!(world.catalog.datasets(&other).await.expect("an answer"), []);
        let query = world.running("create table").await;
        let no_dataset = world
            .catalog
            .reserve_table(&other, &sales.name, &query.id)
            .await
            .expect_err("not theirs");
        assert_eq!(no_dataset.to_string(), "no dataset named shop");
        assert_eq!(
            world.catalog.projects().await.expect("projects"),
            [world.acme.clone(), other]
        );
        world.close().await;
    }
}

#[tokio::test]
async fn a_dataset_that_is_used_is_dropped_only_with_cascade() {
    for world in worlds().await {
        let shop: DatasetName = "shop".parse().expect("a name");
        world.table("shop.sales").await;
        world
            .catalog
            .create_view(&world.acme, &name("shop.best"), &view("select 1"), false)
            .await
            .expect("free");

        let refused = world
            .catalog
            .drop_dataset(&world.acme, &shop, false)
            .await
            .expect_err("it is used");
        assert!(
            matches!(&refused, Error::Conflict(message) if message == "dataset shop is not empty"),
            "{refused}"
        );
        world
            .catalog
            .drop_dataset(&world.acme, &shop, true)
            .await
            .expect("dropped");

        assert_eq!(world.catalog.datasets(&world.acme).await.expect("datasets"), []);
        assert_eq!(names_in(&world).await, [""; 0]);
        let gone = world
            .catalog
            .drop_dataset(&world.acme, &shop, true)
            .await
            .expect_err("gone");
        assert!(matches!(gone, Error::NotFound(_)), "{gone}");
        world.close().await;
    }
}

#[tokio::test]
async fn a_table_whose_dataset_was_dropped_meanwhile_is_not_published() {
    for world in worlds().await {
        let query = world.running("create table").await;
        let table = world
            .catalog
            .reserve_table(&world.acme, &name("shop.sales"), &query.id)
            .await
            .expect("free");
        world
            .catalog
            .drop_dataset(&world.acme, table.name.dataset(), false)
            .await
            .expect("nothing is in it");

        let refused = world
            .queries
            .end(&query.id, done(publish(&table)))
            .await
            .expect_err("no dataset");

        assert_eq!(refused.to_string(), "no dataset named shop");
        let record = world
            .queries
            .get(&world.acme, &query.id)
            .await
            .expect("an answer")
            .expect("a record");
        assert_eq!(record.state, QueryState::Running, "nothing of the end was done");
        world
            .queries
            .end(&query.id, unbilled(QueryState::Failed))
            .await
            .expect("an end");
        world.close().await;
    }
}

#[tokio::test]
async fn a_replacement_takes_the_name_of_the_table_it_replaces() {
    for world in worlds().await {
        let old = world.table("shop.sales").await;
        let replace = |table: &TableRecord| Effect::Replace {
            old: old.uid.clone(),
            uid: table.uid.clone(),
            version: 0,
            schema: "{}".to_owned(),
        };
        let (first, second) = (
            world.running("create or replace").await,
            world.running("create or replace").await,
        );
        let winner = world
            .catalog
            .reserve_replacement(&world.acme, &old.name, &first.id)
            .await
            .expect("room");
        let loser = world
            .catalog
            .reserve_replacement(&world.acme, &old.name, &second.id)
            .await
            .expect("room");

        world
            .queries
            .end(&first.id, done(replace(&winner)))
            .await
            .expect("an end");
        let refused = world
            .queries
            .end(&second.id, done(replace(&loser)))
            .await
            .expect_err("too late");

        assert!(matches!(refused, Error::Conflict(_)), "{refused}");
        let live = world.catalog.relation(&world.acme, &old.name).await.expect("an answer");
        assert!(matches!(live, Some(Relation::Table(live)) if live.uid == winner.uid));
        world.close().await;
    }
}

#[tokio::test]
async fn versions_go_forward_only() {
    for world in worlds().await {
        let table = world.table("shop.sales").await;
        let seen = async || match world.catalog.relation(&world.acme, &table.name).await {
            Ok(Some(Relation::Table(table))) => table.version,
            other => panic!("{other:?}"),
        };

        for (version, at) in [(7, 7), (9, 9), (8, 9)] {
            let query = world.running("insert").await;
            let effect = Effect::Advance {
                uid: table.uid.clone(),
                version: 0,
            }
            .at_version(version);
            world.queries.end(&query.id, done(effect)).await.expect("an end");
            assert_eq!(seen().await, at);
        }
        world.close().await;
    }
}

#[tokio::test]
async fn an_insert_into_a_table_that_was_dropped_meanwhile_is_still_done() {
    for world in worlds().await {
        let table = world.table("shop.sales").await;
        let insert = world.running("insert").await;
        world
            .catalog
            .drop_relation(&world.acme, &table.name, RelationKind::Table)
            .await
            .expect("dropped");

        let line = world
            .queries
            .end(
                &insert.id,
                done(Effect::Advance {
                    uid: table.uid,
                    version: 1,
                }),
            )
            .await;

        assert!(line.expect("an end").line().is_some());
        assert_eq!(names_in(&world).await, [""; 0]);
        world.close().await;
    }
}

#[tokio::test]
async fn files_that_nobody_needs_are_garbage_until_they_are_forgotten() {
    for world in worlds().await {
        let dropped = world.table("shop.dropped").await;
        world
            .catalog
            .drop_relation(&world.acme, &dropped.name, RelationKind::Table)
            .await
            .expect("dropped");
        world.table("shop.kept").await;
        let (failed, filling) = (world.running("create table").await, world.running("create table").await);
        let given_up = world
            .catalog
            .reserve_table(&world.acme, &name("shop.a"), &failed.id)
            .await
            .expect("free");
        let filled = world
            .catalog
            .reserve_table(&world.acme, &name("shop.b"), &filling.id)
            .await
            .expect("free");
        world
            .queries
            .end(&failed.id, unbilled(QueryState::Failed))
            .await
            .expect("an end");
        let garbage = async |older_than| {
            let garbage = world.catalog.garbage(older_than).await.expect("garbage");
            garbage.into_iter().map(|table| table.uid).collect::<Vec<_>>()
        };

        assert_eq!(
            garbage(world.clock.now().minus(Duration::from_secs(60))).await,
            [],
            "it is too fresh"
        );
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(
            garbage(world.clock.now()).await,
            [dropped.uid.clone(), given_up.uid.clone()]
        );

        world.catalog.forget_table(&dropped.uid).await.expect("forgotten");
        world.catalog.forget_table(&given_up.uid).await.expect("forgotten");
        assert_eq!(garbage(world.clock.now()).await, []);
        world
            .queries
            .end(&filling.id, done(publish(&filled)))
            .await
            .expect("an end");
        let refused = world.catalog.forget_table(&filled.uid).await.expect_err("it is live");
        assert!(matches!(refused, Error::Conflict(_)), "{refused}");
        world.close().await;
    }
}

#[tokio::test]
async fn what_is_there_already_or_not_at_all_is_said_by_name() {
    for world in worlds().await {
        let (nobody, shop) = ("nobody".parse().expect("a name"), "shop".parse().expect("a name"));

        let by = Actor::house();
        let project = world
            .people
            .create_project(&world.acme, &[9; 32], &by)
            .await
            .expect_err("there already");
        let dataset = world
            .catalog
            .create_dataset(&world.acme, &shop)
            .await
            .expect_err("there already");
        let no_project = world.catalog.create_dataset(&nobody, &shop).await.expect_err("nobody");

        assert_eq!(project.to_string(), "project acme already exists");
        assert_eq!(dataset.to_string(), "dataset shop already exists");
        assert_eq!(no_project.to_string(), "no project named nobody");
        world.close().await;
    }
}
