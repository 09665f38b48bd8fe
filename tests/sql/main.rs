//! DataFusion's own SQL suite, asked over HTTP: what its engine answers, our warehouse answers.
//!
//! The files come with the crate `datafusion-sqllogictest`, which is fetched and never compiled. Every file is run from
//! its first record to its last by one caller, in an empty project named `datafusion` with a dataset `public`, so that
//! names in the files mean here what they mean there. What cannot be the same is listed in `exclusions.txt`, with the
//! reason.

mod answers;
mod changes;
mod compare;
mod copy;
mod exclusions;
mod exports;
mod external;
mod files;
mod formats;
mod keys;
mod plans;
mod prepared;
mod records;
mod registered;
mod report;
mod runner;
mod stand_ins;
mod suite;
mod tables;
mod tpch;
mod words;

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the harness serves all suites, and this one needs a part of it")]
mod harness;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use exclusions::{Exclusions, Missing};
use files::Shelves;
use harness::Warehouse;
use report::{Outcome, Report};
use runner::{Failure, NOT_HERE, Pass, Session};
use suite::{File, Packages, Selection};

/// Warehouses that work on the list of files at the same time.
const LANES: usize = 2;

/// Every query that reads anything has so many workers.
fn of_workers(workers: usize) -> String {
    let most = 4 * workers;
    format!("[workers]\nmax = {most}\nthreads = 2\n[queries]\nworkers_max = {workers}\nmib_per_worker = 0\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_suite_of_datafusion_has_the_same_answers_over_http() {
    ask_all("", Exclusions::read()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_suite_of_datafusion_has_the_same_answers_from_several_workers() {
    let workers = std::env::var("WASMHOUSE_SQL_WORKERS").map_or(3, |text| text.parse().expect("a number of workers"));
    ask_all(&of_workers(workers), Exclusions::read().of_several_workers()).await;
}

/// Asks warehouses with these settings, and compares every answer.
async fn ask_all(settings: &str, exclusions: Exclusions) {
    let selection = Selection::from_environment();
    let packages = Packages::read();
    let shelves = Shelves::of(&packages);
    let files: VecDeque<File> = suite::files(&packages)
        .into_iter()
        .filter(|file| selection.holds(&file.name))
        .collect();
    assert!(!files.is_empty(), "no file of the suite is {selection:?}");
    let queue = Mutex::new(files);

    let lanes = (0..LANES).map(|_| work(settings, &queue, &exclusions, &shelves));
    let mut report = Report::default();
    for part in futures::future::join_all(lanes).await {
        report.add(part);
    }

    report.print();
    report.write_suggestions();
    assert!(
        report.failures().is_empty(),
        "{} records have another answer",
        report.failures().len()
    );
}

/// Takes files from the queue until there are none.
async fn work(settings: &str, queue: &Mutex<VecDeque<File>>, exclusions: &Exclusions, shelves: &Shelves) -> Report {
    let warehouse = Warehouse::start_with(settings).await;
    let caller = warehouse.project("datafusion").await;
    let mut report = Report::default();
    loop {
        let Some(file) = queue.lock().expect("nobody panics while taking a file").pop_front() else {
            return report;
        };
        if let Some(reason) = exclusions.of_file(&file.name) {
            for record in &file.records {
                report.record(
                    &file.name,
                    record,
                    Outcome::Excluded {
                        reason: reason.to_owned(),
                        failure: Some(Failure::new(NOT_HERE, "the file is not run")),
                    },
                );
            }
            continue;
        }

        let started = Instant::now();
        let mut session = Session::start(&caller, shelves, &file).await;
        session.has_several_workers = exclusions.are_of_several_workers();
        let mut missing = Missing::default();
        for record in &file.records {
            let result = session.run(record).await;
            if result.is_err() {
                missing.note(&record.sql);
            }
            let outcome = match (result, exclusions.of_record(&file.name, &record.line)) {
                (result, Some(reason)) => Outcome::Excluded {
                    reason: reason.to_owned(),
                    failure: result.err(),
                },
                (Ok(Pass::Whole), None) => Outcome::Passed,
                (Ok(Pass::ButForScans), None) => Outcome::PassedButForScans,
                (Ok(Pass::LogicalPlan), None) => Outcome::PassedOnLogicalPlan,
                (Err(failure), None) => match exclusions.of_failure(&record.sql, &failure, &missing) {
                    Some(reason) => Outcome::Excluded {
                        reason: reason.to_owned(),
                        failure: Some(failure),
                    },
                    None => Outcome::Failed(failure),
                },
            };
            report.record(&file.name, record, outcome);
        }
        println!(
            "{:>6} records in {:>5.1?}  {}",
            file.records.len(),
            started.elapsed(),
            file.name
        );
    }
}
