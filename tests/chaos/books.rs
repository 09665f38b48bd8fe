//! What was written, as its callers were told; and the audit that compares it with what is there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::caller::Caller;
use crate::work::{Batch, DATASET, ROWS_OF_A_BATCH, Told, Way};

/// Every batch of every round.
#[derive(Default)]
pub(crate) struct Books {
    batches: Vec<Batch>,
}

impl Books {
    pub(crate) fn enter(&mut self, batches: Vec<Batch>) {
        self.batches.extend(batches);
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.batches.iter().filter(|batch| batch.is_acknowledged()).count()
    }

    pub(crate) fn summary(&self) -> String {
        let open = self
            .batches
            .iter()
            .filter(|batch| matches!(batch.told, Told::Nothing))
            .count();
        format!(
            "{} batches: {} acknowledged, {open} with a dead line",
            self.batches.len(),
            self.acknowledged()
        )
    }

    /// Compares everything with everything: the callers' words, the rows, the queries, the ledger.
    pub(crate) async fn audit(&self, caller: &Caller) {
        let present = self.present(caller).await;
        let states = states(caller).await;

        for batch in &self.batches {
            let name = format!("batch {} by {:?}", batch.number, batch.way);
            let is_there = present.contains(&batch.number);
            match &batch.told {
                Told::Done => assert!(is_there, "{name} was acknowledged and is missing"),
                Told::Failed(why) => assert!(!is_there, "{name} failed ({why}) and is there"),
                Told::Nothing => {}
            }
            // A request that never reached the gateway has no record.
            if let Some(state) = states.by_batch.get(&batch.number) {
                assert_eq!(
                    state == "done",
                    is_there,
                    "{name} is {state}, and its rows are there: {is_there}"
                );
            }
        }

        let known: BTreeSet<u64> = self.batches.iter().map(|batch| batch.number).collect();
        let strange: Vec<&u64> = present.difference(&known).collect();
        assert!(strange.is_empty(), "batches that nobody wrote: {strange:?}");

        audit_ledger(caller, &states).await;
    }

    /// The batches whose rows are there. One of which only a part is there ends the test.
    async fn present(&self, caller: &Caller) -> BTreeSet<u64> {
        let mut present = BTreeSet::new();
        for table in ["loads", "inserts"] {
            let rows = caller
                .sql(&format!(
                    "select batch, count(*), count(distinct n) from {DATASET}.{table} group by batch"
                ))
                .await;
            for row in &rows.rows {
                let number = row[0].as_u64().expect("batches have numbers");
                assert_eq!(
                    (&row[1], &row[2]),
                    (&ROWS_OF_A_BATCH.into(), &ROWS_OF_A_BATCH.into()),
                    "batch {number} in {table}"
                );
                assert!(present.insert(number), "batch {number} is in two tables");
            }
        }

        let tables = caller
            .get(&format!("/v1/datasets/{DATASET}/tables"))
            .await
            .expect("a list");
        let names = tables["tables"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|table| table["name"].as_str());
        for name in names {
            let Some((_, number)) = name.split_once("made_") else {
                continue;
            };
            let number = number.parse().expect("a table of ours ends in its number");
            let rows = caller
                .sql(&format!(
                    "select count(*), count(distinct n), min(batch), max(batch) from {name}"
                ))
                .await;
            assert_eq!(
                rows,
                serde_json::json!([[ROWS_OF_A_BATCH, ROWS_OF_A_BATCH, number, number]]),
                "{name}"
            );
            present.insert(number);
        }
        let made = self
            .batches
            .iter()
            .filter(|batch| batch.way == Way::Create && batch.is_acknowledged());
        assert!(
            made.map(|batch| batch.number).all(|number| present.contains(&number)),
            "a table that was made is missing"
        );
        present
    }
}

/// The states of all queries of the project.
struct States {
    by_query: BTreeMap<String, String>,
    by_batch: BTreeMap<u64, String>,
}

async fn states(caller: &Caller) -> States {
    let mut states = States {
        by_query: BTreeMap::new(),
        by_batch: BTreeMap::new(),
    };
    let mut cursor = String::new();
    loop {
        let page = caller
            .get(&format!("/v1/queries?limit=100{cursor}"))
            .await
            .expect("a project lists its queries");
        for query in page["queries"].as_array().expect("a list") {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let state = text(&query["state"]).expect("a query has a state");
            states
                .by_query
                .insert(text(&query["id"]).expect("a query has an id"), state.clone());
            if let Some(number) = query["labels"]["batch"].as_str().and_then(|number| number.parse().ok()) {
                states.by_batch.insert(number, state);
            }
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return states,
        }
    }
}

/// One line for every query that has ended, free for those that failed or were lost, and the chain is whole.
async fn audit_ledger(caller: &Caller, states: &States) {
    let lines = caller.ledger().await;
    let (mut known, mut billed) = (BTreeSet::new(), BTreeSet::new());
    let mut before: Option<&Value> = None;
    for line in &lines {
        let query = line["query_id"].as_str().expect("a line is about a query");
        assert!(known.insert(query), "query {query} has two lines");
        if line["cost"]["free"].is_null() {
            billed.insert(query);
        }
        if let Some(before) = before {
            assert_eq!(
                &line["prev_hash"], before,
                "line {} does not follow the one before it",
                line["seq"]
            );
        }
        before = Some(&line["hash"]);
    }
    for (query, state) in &states.by_query {
        match state.as_str() {
            "done" => assert!(billed.contains(query.as_str()), "query {query} is done and not billed"),
            "failed" | "lost" => {
                assert!(!billed.contains(query.as_str()), "query {query} is {state} and billed");
                assert!(
                    known.contains(query.as_str()),
                    "query {query} is {state} and has no line"
                );
            }
            // Somebody stopped it; whether rows had left by then decides.
            _ => {}
        }
    }
}
