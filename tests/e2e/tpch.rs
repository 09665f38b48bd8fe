//! TPC-H at scale factor 0.1: 22 answers that are known, from data that is generated here.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RecordBatchIterator, RegionArrow,
    SupplierArrow,
};

use crate::Warehouse;
use crate::harness::compare::{difference, records};

const SCALE_FACTOR: f64 = 0.1;
/// What Q11 calls FRACTION: 0.0001 divided by the scale factor.
const FRACTION: &str = "0.001";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/tpch")
}

/// Every table, as the Parquet file somebody would upload.
fn tables() -> Vec<(&'static str, Vec<u8>)> {
    let sf = SCALE_FACTOR;
    vec![
        ("region", parquet(RegionArrow::new(RegionGenerator::new(sf, 1, 1)))),
        ("nation", parquet(NationArrow::new(NationGenerator::new(sf, 1, 1)))),
        (
            "supplier",
            parquet(SupplierArrow::new(SupplierGenerator::new(sf, 1, 1))),
        ),
        (
            "customer",
            parquet(CustomerArrow::new(CustomerGenerator::new(sf, 1, 1))),
        ),
        ("part", parquet(PartArrow::new(PartGenerator::new(sf, 1, 1)))),
        (
            "partsupp",
            parquet(PartSuppArrow::new(PartSuppGenerator::new(sf, 1, 1))),
        ),
        ("orders", parquet(OrderArrow::new(OrderGenerator::new(sf, 1, 1)))),
        (
            "lineitem",
            parquet(LineItemArrow::new(LineItemGenerator::new(sf, 1, 1))),
        ),
    ]
}

fn parquet(batches: impl RecordBatchIterator) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batches.schema().clone(), Some(properties))
        .expect("TPC-H has types that Parquet knows");
    let batches: Vec<RecordBatch> = batches.collect();
    for batch in &batches {
        writer.write(batch).expect("memory is always writable");
    }
    writer.into_inner().expect("memory is always writable")
}

#[tokio::test]
async fn the_22_queries_of_tpch_have_the_22_right_answers_however_many_workers_there_are() {
    let mut warehouse = Warehouse::start().await;
    warehouse.dataset("tpch").await;
    for (name, file) in tables() {
        warehouse
            .load(&format!("tpch.{name}"), "format=parquet&mode=create", file)
            .await
            .expect(name);
    }

    assert_all_right(&warehouse).await;
    // The head, and 1, 2, 3 and 7 beside it.
    for workers in [2, 3, 4, 8] {
        warehouse.configure(&format!(
            "[workers]\nmax = 9\n[queries]\nworkers_max = {workers}\nmib_per_worker = 1\n"
        ));
        warehouse.restart().await;
        assert_all_right(&warehouse).await;
        // Those that a query had, and the next one that is kept warm.
        assert_eq!(warehouse.worker_pids().len(), workers + 1, "{workers} workers");
    }
}

async fn assert_all_right(warehouse: &Warehouse) {
    let mut wrong = Vec::new();
    for number in 1..=22 {
        let sql = fs::read_to_string(folder().join(format!("q{number:02}.sql"))).expect("the query is kept as a file");
        let sql = sql.replace("{FRACTION}", FRACTION);
        let answer = warehouse.csv("tpch", sql).await;

        let known = fs::read_to_string(folder().join(format!("answers/sf0.1/q{number:02}.csv")))
            .expect("the answer is kept as a file");
        if let Some(difference) = difference(&records(&known), &records(&answer)) {
            wrong.push(format!("Q{number}: {difference}"));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
