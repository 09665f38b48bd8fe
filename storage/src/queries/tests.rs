use std::time::Duration;

use futures::future::join_all;

use super::*;
use crate::catalog::Effect;
use crate::catalog::db::tests::{World, asker, done, unbilled, worlds};
use crate::ids::TableUid;
use crate::ledger::{SignedReceipt, receipt_hash};
use crate::money::Free;
use crate::tables::TableLocation;

async fn lines(world: &World) -> usize {
    world.ledger.lines(&world.acme, 0, MAX_PAGE).await.expect("lines").len()
}

async fn state(world: &World, id: &QueryId) -> QueryState {
    world
        .queries
        .get(&world.acme, id)
        .await
        .expect("an answer")
        .expect("a record")
        .state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_ended_many_times_at_once_has_one_ledger_line() {
    for world in worlds().await {
        let query = world.running("select 1").await;

        let ends = join_all((0..16).map(|_| world.queries.end(&query.id, done(Effect::None)))).await;

        let lines_written = ends
            .into_iter()
            .filter_map(|end| end.expect("an answer").line())
            .collect::<Vec<_>>();
        assert_eq!(lines_written.len(), 1);
        assert_eq!(
            world.ledger.lines(&world.acme, 0, 10).await.expect("lines"),
            lines_written
        );
        assert_eq!(
            world
                .ledger
                .line(&world.acme, &query.id)
                .await
                .expect("a line")
                .as_ref(),
            lines_written.first()
        );
        world.close().await;
    }
}

#[tokio::test]
async fn the_first_end_is_how_a_query_ended() {
    for world in worlds().await {
        let query = world.running("select 1").await;
        world
            .queries
            .end(&query.id, unbilled(QueryState::Lost))
            .await
            .expect("an end");

        let second = world
            .queries
            .end(&query.id, done(Effect::None))
            .await
            .expect("no error");

        assert_eq!(second, Settled::Already(QueryState::Lost));
        assert_eq!(state(&world, &query.id).await, QueryState::Lost);
        assert_eq!(lines(&world).await, 1);
        world.close().await;
    }
}

#[tokio::test]
async fn whatever_has_ended_has_a_line_that_says_what_it_costs_or_why_nothing() {
    for world in worlds().await {
        let receipt = SignedReceipt {
            text: "{\"says\":\"ü\"}".to_owned(),
            signature: "00".to_owned(),
            key: "k1".to_owned(),
        };
        for (state, is_signed) in [
            (QueryState::Done, true),
            (QueryState::Failed, true),
            (QueryState::Cancelled, false),
            (QueryState::Abandoned, true),
            (QueryState::Lost, false),
        ] {
            let query = world.running("select 1").await;
            let usage = Usage {
                rows_returned: 3,
                ..Usage::default()
            };
            let end = match state {
                QueryState::Done => done(Effect::None),
                state => unbilled(state),
            };
            let receipt = is_signed.then(|| receipt.clone());
            let end = End {
                usage,
                receipt: receipt.clone(),
                ..end
            };

            let line = world.queries.end(&query.id, end.clone()).await.expect("an end").line();

            let line = line.expect("a line");
            assert_eq!((&line.query, line.outcome, line.usage), (&query.id, state, usage));
            assert_eq!((line.cost.as_ref(), &line.receipt), (Some(&end.cost), &receipt));
            assert_eq!(line.receipt_hash, receipt.map(|receipt| receipt_hash(&receipt.text)));
            let read = world.ledger.line(&world.acme, &query.id).await.expect("an answer");
            assert_eq!(read, Some(line));
            let record = world.queries.get(&world.acme, &query.id).await.expect("an answer");
            assert_eq!(record.expect("a record").cost, Some(end.cost));
        }
        assert_eq!(world.ledger.verify(&world.acme).await.expect("it holds"), 5);
        world.close().await;
    }
}

#[tokio::test]
async fn a_record_tells_the_life_of_a_query() {
    for world in worlds().await {
        let labels = BTreeMap::from([("team".to_owned(), "ü'\"\\\u{1F980}".to_owned())]);
        let new = NewQuery {
            request_id: Some("r-1".to_owned()),
            labels: labels.clone(),
            started: false,
            ..world.new_query("select 'é'")
        };
        let created_at = world.clock.now();
        let created = world.queries.create(new).await.expect("recorded");
        let id = created.record().id.clone();
        assert_eq!(created.record().state, QueryState::Pending);

        world.clock.advance(Duration::from_secs(1));
        let started_at = world.clock.now();
        world.queries.start(&id).await.expect("started");
        world.clock.advance(Duration::from_secs(1));
        world
            .queries
            .start(&id)
            .await
            .expect("started again: the first worker died");
        let error = QueryError {
            code: "out_of_memory".into(),
            message: "too much".into(),
            line: Some(1),
            column: None,
        };
        let end = End {
            error: Some(error.clone()),
            ..unbilled(QueryState::Failed)
        };
        world.queries.end(&id, end).await.expect("an end");

        let record = world
            .queries
            .get(&world.acme, &id)
            .await
            .expect("an answer")
            .expect("a record");
        assert_eq!(
            record,
            QueryRecord {
                fingerprint: "select 'é'".to_owned(),
                id,
                project: world.acme.clone(),
                asked_by: Some(asker()),
                request_id: Some("r-1".into()),
                sql: "select 'é'".into(),
                kind: "select".into(),
                labels,
                state: QueryState::Failed,
                created_at,
                started_at: Some(started_at),
                ended_at: Some(world.clock.now()),
                owner: "gateway-1".into(),
                lease_until: created_at.plus(Duration::from_secs(30)),
                cancel_requested: false,
                attempts: 2,
                usage: Usage::default(),
                cost: Some(unbilled(QueryState::Failed).cost),
                error: Some(error),
                results: None,
                results_expired: false,
                profile: None,
                target: None,
            }
        );
        world.close().await;
    }
}

#[tokio::test]
async fn a_query_that_is_over_cannot_be_started_or_committed() {
    for world in worlds().await {
        let query = world.running("insert").await;
        let intent = WriteIntent {
            location: location(&world).await,
            since: Some(3),
            effect: Effect::None,
            usage: Usage::default(),
            cost: None,
            receipt: None,
        };
        world
            .queries
            .end(&query.id, unbilled(QueryState::Lost))
            .await
            .expect("an end");

        let started = world.queries.start(&query.id).await.expect_err("over");
        let intended = world.queries.intend(&query.id, &intent).await.expect_err("over");

        assert_eq!(started.to_string(), format!("query {} is over: lost", query.id));
        assert!(matches!(intended, Error::Conflict(_)), "{intended}");
        let nobody = QueryId::new(world.clock.now());
        assert!(matches!(world.queries.start(&nobody).await, Err(Error::NotFound(_))));
        assert!(matches!(
            world.queries.end(&nobody, done(Effect::None)).await,
            Err(Error::NotFound(_))
        ));
        assert!(matches!(
            world.queries.end(&query.id, unbilled(QueryState::Running)).await,
            Err(Error::Internal(_))
        ));
        world.close().await;
    }
}

#[tokio::test]
async fn a_request_that_is_sent_twice_is_one_query() {
    for world in worlds().await {
        let request = |sql: &str| NewQuery {
            request_id: Some("r-1".into()),
            ..world.new_query(sql)
        };
        let first = world.queries.create(request("select 1")).await.expect("recorded");

        let again = world.queries.create(request("select 1")).await.expect("found");
        let other_statement = world
            .queries
            .create(request("select 2"))
            .await
            .expect_err("another statement");

        let Created::New(first) = first else {
            panic!("it was new")
        };
        assert_eq!(again, Created::Existing(first.clone()));
        let message = format!(
            "another request was already sent with this request id; it became {}",
            first.id
        );
        assert!(
            matches!(&other_statement, Error::Conflict(said) if *said == message),
            "{other_statement}"
        );
        let other: ProjectId = "other".parse().expect("a name");
        world.project(&other).await;
        let theirs = NewQuery {
            project: other,
            ..request("select 1")
        };
        assert!(
            matches!(world.queries.create(theirs).await, Ok(Created::New(_))),
            "a request id is the project's own"
        );
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_many_times_at_once_is_one_query() {
    for world in worlds().await {
        let request = || NewQuery {
            request_id: Some("r-1".into()),
            ..world.new_query("select 1")
        };

        let created = join_all((0..8).map(|_| world.queries.create(request()))).await;

        let created: Vec<_> = created.into_iter().map(|created| created.expect("an answer")).collect();
        assert_eq!(
            created
                .iter()
                .filter(|created| matches!(created, Created::New(_)))
                .count(),
            1
        );
        assert!(created.iter().all(|one| one.record().id == created[0].record().id));
        world.close().await;
    }
}

#[tokio::test]
async fn a_list_is_filtered_and_read_page_by_page() {
    for world in worlds().await {
        let mut ids = Vec::new();
        for number in 0..5 {
            world.clock.advance(Duration::from_secs(1));
            let parity = if number % 2 == 0 { "even" } else { "odd" };
            let labels = BTreeMap::from([("parity".to_owned(), parity.to_owned())]);
            let new = NewQuery {
                labels,
                ..world.new_query(&format!("select {number}"))
            };
            ids.push(world.queries.create(new).await.expect("recorded").record().id.clone());
        }
        world.queries.end(&ids[3], done(Effect::None)).await.expect("an end");
        let list = async |filter: Filter| {
            let page = world.queries.list(&world.acme, &filter).await.expect("a page");
            let position = |record: QueryRecord| ids.iter().position(|id| *id == record.id).expect("one of ours");
            page.into_iter().map(position).collect::<Vec<_>>()
        };
        let label = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        let three_seconds_ago = world.clock.now().minus(Duration::from_secs(3));

        assert_eq!(list(Filter::default()).await, [4, 3, 2, 1, 0]);
        assert_eq!(
            list(Filter {
                limit: 2,
                ..Filter::default()
            })
            .await,
            [4, 3]
        );
        assert_eq!(
            list(Filter {
                limit: 2,
                before: Some(ids[3].clone()),
                ..Filter::default()
            })
            .await,
            [2, 1]
        );
        assert_eq!(
            list(Filter {
                before: Some(ids[0].clone()),
                ..Filter::default()
            })
            .await,
            [0; 0]
        );
        assert_eq!(
            list(Filter {
                state: Some(QueryState::Done),
                ..Filter::default()
            })
            .await,
            [3]
        );
        assert_eq!(
            list(Filter {
                label: label("parity", "odd"),
                ..Filter::default()
            })
            .await,
            [3, 1]
        );
        assert_eq!(
            list(Filter {
                label: label("parity", "none"),
                ..Filter::default()
            })
            .await,
            [0; 0]
        );
        assert_eq!(
            list(Filter {
                created_after: Some(three_seconds_ago),
                ..Filter::default()
            })
            .await,
            [4, 3, 2]
        );
        let both = Filter {
            state: Some(QueryState::Running),
            label: label("parity", "odd"),
            ..Filter::default()
        };
        assert_eq!(list(both).await, [1]);
        let other: ProjectId = "other".parse().expect("a name");
        assert_eq!(
            world.queries.list(&other, &Filter::default()).await.expect("a page"),
            []
        );
        assert_eq!(world.queries.get(&other, &ids[0]).await.expect("an answer"), None);
        world.close().await;
    }
}

#[tokio::test]
async fn a_query_whose_owner_is_gone_is_found() {
    for world in worlds().await {
        let dead = world.running("select 1").await;
        let ended = world.running("select 2").await;
        world.queries.end(&ended.id, done(Effect::None)).await.expect("an end");
        let alive = NewQuery {
            owner: "gateway-2".into(),
            ..world.new_query("select 3")
        };
        let alive = world.queries.create(alive).await.expect("recorded");

        world.clock.advance(Duration::from_secs(60));
        let renewed = world
            .queries
            .renew(
                "gateway-2",
                &[alive.record().id.clone(), ended.id.clone()],
                world.clock.now().plus(Duration::from_secs(30)),
            )
            .await;

        assert_eq!(renewed.expect("renewed"), 1);
        let lost = world.queries.lost(world.clock.now()).await.expect("an answer");
        assert_eq!(lost.iter().map(|record| &record.id).collect::<Vec<_>>(), [&dead.id]);
        assert_ne!(alive.record().id, dead.id);
        world.close().await;
    }
}

#[tokio::test]
async fn what_was_about_to_be_committed_is_found_with_the_lost_query() {
    for world in worlds().await {
        let query = world.running("insert").await;
        let intent = WriteIntent {
            location: location(&world).await,
            since: Some(3),
            effect: Effect::Advance {
                uid: TableUid::new(world.clock.now()),
                version: 4,
            },
            usage: Usage {
                rows_written: 5,
                ..Usage::default()
            },
            cost: Some(done(Effect::None).cost),
            receipt: Some(SignedReceipt {
                text: "{}".to_owned(),
                signature: "00".to_owned(),
                key: "k1".to_owned(),
            }),
        };
        world.queries.intend(&query.id, &intent).await.expect("recorded");

        world.clock.advance(Duration::from_secs(60));
        let lost = world.queries.lost(world.clock.now()).await.expect("an answer");

        assert_eq!(lost.len(), 1);
        assert_eq!(lost[0].state, QueryState::Committing);
        assert_eq!(lost[0].target.as_ref(), Some(&intent));
        world.close().await;
    }
}

#[tokio::test]
async fn a_live_query_can_be_asked_to_stop() {
    for world in worlds().await {
        let (query, over) = (world.running("select 1").await, world.running("select 2").await);
        world.queries.end(&over.id, done(Effect::None)).await.expect("an end");
        let other: ProjectId = "other".parse().expect("a name");
        let requests = async || world.queries.cancel_requests("gateway-1").await.expect("an answer");

        assert!(requests().await.is_empty());
        assert!(
            !world
                .queries
                .request_cancel(&other, &query.id)
                .await
                .expect("an answer"),
            "it is not theirs"
        );
        assert!(
            world
                .queries
                .request_cancel(&world.acme, &query.id)
                .await
                .expect("an answer")
        );
        assert!(
            !world
                .queries
                .request_cancel(&world.acme, &over.id)
                .await
                .expect("an answer"),
            "it is over"
        );

        assert_eq!(requests().await, std::slice::from_ref(&query.id));
        assert_eq!(
            world.queries.cancel_requests("gateway-1").await.expect("an answer"),
            std::slice::from_ref(&query.id)
        );
        assert_eq!(world.queries.cancel_requests("gateway-2").await.expect("an answer"), []);
        let record = world
            .queries
            .get(&world.acme, &query.id)
            .await
            .expect("an answer")
            .expect("a record");
        assert!(record.cancel_requested);
        world.close().await;
    }
}

#[tokio::test]
async fn results_expire_and_are_named_until_they_are_removed() {
    for world in worlds().await {
        let (old, young) = (world.running("select 1").await, world.running("select 2").await);
        let keep = |manifest: &str| End {
            results: Some(manifest.to_owned()),
            profile: Some(format!("profile of {manifest}")),
            ..done(Effect::None)
        };
        world.queries.end(&old.id, keep("old")).await.expect("an end");
        world.clock.advance(Duration::from_secs(60));
        world.queries.end(&young.id, keep("young")).await.expect("an end");
        let results = async |id: &QueryId| {
            let record = world
                .queries
                .get(&world.acme, id)
                .await
                .expect("an answer")
                .expect("a record");
            (record.results, record.results_expired)
        };
        let page = world
            .queries
            .list(&world.acme, &Filter::default())
            .await
            .expect("a page");
        assert!(
            page.iter().all(|record| record.results.is_none()),
            "a list does not carry results"
        );

        for _ in 0..2 {
            let expired = world.queries.expire_results(world.clock.now()).await.expect("expired");
            assert_eq!(expired, [(world.acme.clone(), old.id.clone())]);
        }
        world
            .queries
            .results_removed(std::slice::from_ref(&old.id))
            .await
            .expect("removed");

        assert_eq!(
            world.queries.expire_results(world.clock.now()).await.expect("expired"),
            []
        );
        assert_eq!(results(&old.id).await, (None, true));
        assert_eq!(results(&young.id).await, (Some("young".to_owned()), false));
        let profile = async |id| world.queries.profile(&world.acme, id).await.expect("an answer");
        assert_eq!(profile(&old.id).await, None);
        assert_eq!(profile(&young.id).await.as_deref(), Some("profile of young"));
        let others = "other".parse().expect("a name");
        assert_eq!(
            world.queries.profile(&others, &young.id).await.expect("an answer"),
            None
        );
        world.close().await;
    }
}

#[tokio::test]
async fn a_query_that_cannot_be_stored_as_it_is_is_refused() {
    for world in worlds().await {
        let nul = world
            .queries
            .create(world.new_query("select 'a\0b'"))
            .await
            .expect_err("it has a NUL");
        let nobody = NewQuery {
            project: "nobody".parse().expect("a name"),
            ..world.new_query("select 1")
        };
        let nobody = world.queries.create(nobody).await.expect_err("nobody");
        let new = world.new_query("select 1");
        world.queries.create(new.clone()).await.expect("recorded");
        let twice = world.queries.create(new).await.expect_err("the id is used");

        assert!(matches!(nul, Error::Invalid(_)), "{nul}");
        assert_eq!(nobody.to_string(), "no project named nobody");
        assert!(matches!(twice, Error::AlreadyExists(_)), "{twice}");
        world.close().await;
    }
}

#[test]
fn usage_adds_up_and_of_a_maximum_the_larger_remains() {
    let mut usage = Usage {
        cpu_ms: 3,
        peak_memory_bytes: 10,
        rows_returned: u64::MAX,
        ..Usage::default()
    };

    usage += Usage {
        cpu_ms: 4,
        peak_memory_bytes: 7,
        rows_returned: 1,
        ..Usage::default()
    };

    let expected = Usage {
        cpu_ms: 7,
        peak_memory_bytes: 10,
        rows_returned: u64::MAX,
        ..Usage::default()
    };
    assert_eq!(usage, expected);
}

#[test]
fn every_state_has_a_word() {
    for state in QueryState::ALL {
        assert_eq!(state.to_string().parse::<QueryState>().expect("its own word"), state);
        assert_eq!(serde_json::to_value(state).expect("json"), state.to_string());
    }
    assert!("finished".parse::<QueryState>().is_err());
}

async fn location(world: &World) -> TableLocation {
    world.table("shop.target").await.location
}

#[tokio::test]
async fn a_query_whose_owner_was_heard_of_since_is_not_ended_as_lost() {
    for world in worlds().await {
        let query = world.running("insert").await;
        world.clock.advance(Duration::from_secs(60));
        let lost = world.queries.lost(world.clock.now()).await.expect("an answer");
        let until = world.clock.now().plus(Duration::from_secs(30));
        let renewed = world
            .queries
            .renew("gateway-1", std::slice::from_ref(&query.id), until)
            .await;

        let heard_of = world.queries.end_lost(&lost[0], unbilled(QueryState::Lost)).await;

        assert_eq!(renewed.expect("renewed"), 1);
        assert_eq!(heard_of.expect("no error"), Settled::Already(QueryState::Running));
        assert_eq!(state(&world, &query.id).await, QueryState::Running);

        world.clock.advance(Duration::from_secs(60));
        let lost = world.queries.lost(world.clock.now()).await.expect("an answer");
        let silent = world.queries.end_lost(&lost[0], unbilled(QueryState::Lost)).await;

        let line = silent.expect("an end").line().expect("a line");
        assert_eq!(line.cost.and_then(|cost| cost.free), Some(Free::Lost));
        assert_eq!(state(&world, &query.id).await, QueryState::Lost);
        world.close().await;
    }
}

#[tokio::test]
async fn a_query_that_is_recorded_with_its_end_is_like_any_other() {
    for world in worlds().await {
        for last in [done(Effect::None), unbilled(QueryState::Failed)] {
            let end = End {
                results: Some("{}".to_owned()),
                ..last
            };
            let early = world.running("select 1").await;
            world.queries.end(&early.id, end.clone()).await.expect("an end");
            let before = lines(&world).await;

            world.clock.advance(Duration::from_millis(1));
            let draft = world.queries.draft(world.new_query("select 1")).expect("a draft");
            assert_eq!(
                world.queries.get(&world.acme, &draft.id).await.expect("an answer"),
                None,
                "nobody knows of it"
            );
            let settled = world.queries.create_ended(&draft, end).await.expect("an end");

            assert_eq!(lines(&world).await, before + 1);
            assert!(settled.line().is_some());
            let stored = async |id: &QueryId| {
                let record = world.queries.get(&world.acme, id).await.expect("an answer");
                record.expect("a record")
            };
            let (early, late) = (stored(&early.id).await, stored(&draft.id).await);
            let same_times = |record: QueryRecord| QueryRecord {
                id: draft.id.clone(),
                created_at: draft.created_at,
                started_at: draft.started_at,
                ended_at: Some(draft.created_at),
                lease_until: draft.lease_until,
                ..record
            };
            assert_eq!(same_times(early), same_times(late));
        }
        world.close().await;
    }
}

#[tokio::test]
async fn a_draft_that_was_written_meanwhile_is_ended_once() {
    for world in worlds().await {
        let draft = world.queries.draft(world.new_query("select 1")).expect("a draft");
        world.queries.write(&draft).await.expect("a record");

        let first = world
            .queries
            .create_ended(&draft, done(Effect::None))
            .await
            .expect("an end");
        let again = world
            .queries
            .create_ended(&draft, done(Effect::None))
            .await
            .expect("an answer");

        assert!(first.line().is_some());
        assert_eq!(again, Settled::Already(QueryState::Done));
        assert_eq!(lines(&world).await, 1);
        world.close().await;
    }
}

#[tokio::test]
async fn what_changes_the_catalog_has_a_record_before_it_ends() {
    for world in worlds().await {
        let draft = world
            .queries
            .draft(world.new_query("create schema x"))
            .expect("a draft");
        let effect = Effect::CreateDataset {
            name: "x".parse().expect("a name"),
        };

        let refused = world.queries.create_ended(&draft, done(effect)).await;

        assert!(matches!(refused, Err(Error::Internal(_))), "{refused:?}");
        assert_eq!(lines(&world).await, 0);
        world.close().await;
    }
}

#[tokio::test]
async fn short_reads_of_two_gateways_are_one_chain() {
    for world in worlds().await {
        let other = Catalog::open(&world.url, world.clock.clone())
            .await
            .expect("the same catalog");
        let gateways = [world.queries.clone(), Queries::new(&other)];

        for turn in [0, 0, 0, 1, 1, 0, 1, 0, 0] {
            let draft = gateways[turn].draft(world.new_query("select 1")).expect("a draft");
            let settled = gateways[turn].create_ended(&draft, done(Effect::None)).await;
            let line = settled.expect("an end").line().expect("a line");
            let stored = world.ledger.line(&world.acme, &draft.id).await.expect("an answer");
            assert_eq!(stored, Some(line));
        }

        assert_eq!(world.ledger.verify(&world.acme).await.expect("a chain"), 9);
        other.close().await;
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn short_reads_that_end_together_are_one_chain_with_those_that_had_a_record() {
    for world in worlds().await {
        let ends = (0..40).map(async |number| {
            let end = done(Effect::None);
            match number % 3 {
                0 => world.queries.end(&world.running("select 1").await.id, end).await,
                _ => {
                    let draft = world.queries.draft(world.new_query("select 1")).expect("a draft");
                    world.queries.create_ended(&draft, end).await
                }
            }
        });
        for settled in join_all(ends).await {
            assert!(settled.expect("an end").line().is_some());
        }

        assert_eq!(world.ledger.verify(&world.acme).await.expect("a chain"), 40);
        world.close().await;
    }
}
