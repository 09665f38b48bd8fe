use futures::future::join_all;

use super::*;
use crate::catalog::Effect;
use crate::catalog::db::tests::{World, done, worlds};
use crate::queries::Settled;

/// Acme's ledger with three lines.
async fn three_lines(world: &World) {
    for sql in ["select 1", "select 2", "select 3"] {
        let query = world.running(sql).await;
        world.queries.end(&query.id, done(Effect::None)).await.expect("an end");
    }
}

async fn broken(world: &World) -> BrokenChain {
    match world.ledger.verify(&world.acme).await {
        Err(Error::Internal(source)) => source.downcast_ref::<BrokenChain>().expect("a broken chain").clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_chain_is_recomputed_from_the_text_of_its_lines() {
    for world in worlds().await {
        three_lines(&world).await;

        let lines = world.ledger.lines(&world.acme, 0, 10).await.expect("lines");

        let mut hash = GENESIS;
        for (line, seq) in lines.iter().zip(1..) {
            assert_eq!((line.seq, line.prev_hash), (seq, hash));
            hash = *blake3::hash(&[&line.prev_hash, line.entry.as_bytes()].concat()).as_bytes();
            assert_eq!(line.hash, hash);
        }
        assert_eq!(world.ledger.verify(&world.acme).await.expect("it holds"), 3);
        world.close().await;
    }
}

#[tokio::test]
async fn the_text_of_a_line_is_the_same_for_ever() {
    for world in worlds().await {
        three_lines(&world).await;

        let line = world.ledger.lines(&world.acme, 0, 1).await.expect("lines").remove(0);

        let expected = format!(
            "{{\"project\":\"acme\",\"seq\":1,\"query\":\"{}\",\"at\":1700000000001000,\"kind\":\"select\",\
             \"outcome\":\"done\",\"labels\":{{}},\"usage\":{{\"bytes_processed\":1000,\"rows_returned\":1,\
             \"result_bytes\":0,\"rows_written\":0,\"bytes_written\":0,\"cpu_ms\":0,\"wall_ms\":0,\
             \"peak_memory_bytes\":0,\"bytes_read\":0}},\
             \"cost\":{{\"amount\":\"0.25\",\"currency\":\"USD\",\"prices\":\"test\"}},\"by\":\"ada@example.com\"}}",
            line.query
        );
        assert_eq!(line.entry, expected);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_end_at_once_make_one_chain() {
    for world in worlds().await {
        let mut running = Vec::new();
        for _ in 0..12 {
            running.push(world.running("select 1").await);
        }

        let ends = join_all(
            running
                .iter()
                .map(|query| world.queries.end(&query.id, done(Effect::None))),
        )
        .await;

        assert!(ends.iter().all(|end| matches!(end, Ok(Settled::Ended(_)))));
        assert_eq!(world.ledger.verify(&world.acme).await.expect("it holds"), 12);
        world.close().await;
    }
}

#[tokio::test]
async fn lines_are_read_page_by_page() {
    for world in worlds().await {
        three_lines(&world).await;
        let page = async |after, limit| {
            let lines = world.ledger.lines(&world.acme, after, limit).await.expect("lines");
            lines.into_iter().map(|line| line.seq).collect::<Vec<_>>()
        };

        assert_eq!(page(0, 2).await, [1, 2]);
        assert_eq!(page(2, 2).await, [3]);
        assert_eq!(page(3, 2).await, [0; 0]);
        world.close().await;
    }
}

#[tokio::test]
async fn the_database_refuses_to_change_a_line() {
    for world in worlds().await {
        three_lines(&world).await;

        for attempt in ["update ledger set entry = 'nothing'", "delete from ledger"] {
            let refused = world.tamper(attempt).await.expect_err("append-only");
            assert!(refused.to_string().contains("the ledger is append-only"), "{refused}");
        }
        assert_eq!(world.ledger.verify(&world.acme).await.expect("it holds"), 3);
        world.close().await;
    }
}

#[tokio::test]
async fn a_line_that_was_changed_is_noticed() {
    for world in worlds().await {
        three_lines(&world).await;
        world.unlock_ledger().await;

        let changed = "update ledger set entry = replace(entry, '\"bytes_processed\":1000', '\"bytes_processed\":1')
                       where seq = 2";
        assert_eq!(world.tamper(changed).await.expect("changed"), 1);

        let broken = broken(&world).await;
        assert_eq!(
            broken.to_string(),
            "the ledger of acme does not hold at line 2: it was changed"
        );
        world.close().await;
    }
}

#[tokio::test]
async fn a_line_that_was_removed_or_cut_off_is_noticed() {
    for (removed, noticed_at) in [
        ("delete from ledger where seq = 1", 1),
        ("delete from ledger where seq = 3", 3),
    ] {
        for world in worlds().await {
            three_lines(&world).await;
            world.unlock_ledger().await;

            assert_eq!(world.tamper(removed).await.expect("removed"), 1);

            let broken = broken(&world).await;
            assert_eq!((broken.seq, broken.reason), (noticed_at, "it is missing"));
            world.close().await;
        }
    }
}

#[tokio::test]
async fn a_line_that_is_filed_under_another_query_is_noticed() {
    for world in worlds().await {
        three_lines(&world).await;
        let running = world.running("select 4").await;
        world.unlock_ledger().await;

        let refile = "update ledger set query = (select max(id) from queries) where seq = 2";
        assert_eq!(world.tamper(refile).await.expect("refiled"), 1);

        assert_eq!(broken(&world).await.reason, "it is filed under another name");
        assert!(
            world
                .ledger
                .line(&world.acme, &running.id)
                .await
                .expect("a line")
                .is_some()
        );
        world.close().await;
    }
}

#[tokio::test]
async fn an_empty_ledger_holds_and_an_unknown_one_is_not_found() {
    for world in worlds().await {
        assert_eq!(world.ledger.verify(&world.acme).await.expect("it holds"), 0);
        let nobody = "nobody".parse().expect("a name");
        assert!(matches!(world.ledger.verify(&nobody).await, Err(Error::NotFound(_))));
        world.close().await;
    }
}
