//! The rows of TPC-H that the suite expects as `.tbl` files: scale factor 0.1, generated here.

use std::fmt::{Display, Write};

use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

const SCALE_FACTOR: f64 = 0.1;

/// The file of one table, as TPC-H's own generator writes it: values that end with `|`.
pub(crate) fn file(table: &str) -> Option<Vec<u8>> {
    let sf = SCALE_FACTOR;
    let text = match table {
        "customer" => lines(CustomerGenerator::new(sf, 1, 1).iter()),
        "lineitem" => lines(LineItemGenerator::new(sf, 1, 1).iter()),
        "nation" => lines(NationGenerator::new(sf, 1, 1).iter()),
        "orders" => lines(OrderGenerator::new(sf, 1, 1).iter()),
        "part" => lines(PartGenerator::new(sf, 1, 1).iter()),
        "partsupp" => lines(PartSuppGenerator::new(sf, 1, 1).iter()),
        "region" => lines(RegionGenerator::new(sf, 1, 1).iter()),
        "supplier" => lines(SupplierGenerator::new(sf, 1, 1).iter()),
        _ => return None,
    };
    Some(text.into_bytes())
}

fn lines(rows: impl Iterator<Item = impl Display>) -> String {
    let mut text = String::new();
    for row in rows {
        writeln!(text, "{row}").expect("memory is always writable");
    }
    text
}
