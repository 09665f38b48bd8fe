//! Tables of `information_schema` that only the gateway can fill: who may do what, what was asked, and what it costs.

mod rows;

use wasmhouse_compute::given::Given;
use wasmhouse_compute::sql::{Shown, Statement};
use wasmhouse_storage::ledger::{LedgerLine, MAX_PAGE};
use wasmhouse_storage::queries::{Filter, QueryRecord};

use super::slice::Slice;
use super::{House, visible};
use crate::access::{Act, Caller};
use crate::error::Result;
use crate::people;

/// Who may do what.
const GRANTS: &str = "grants";

/// The newest queries.
const QUERIES: &str = "queries";

/// The newest lines of the ledger.
const INVOICE_LINES: &str = "invoice_lines";

/// The same, added up by day, asker and kind.
const USAGE: &str = "usage";

/// How many queries there are in their table.
const QUERIES_SHOWN: usize = 10_000;

/// How many lines of the ledger there are in theirs, and are added up.
const LINES_SHOWN: i64 = 100_000;

/// Those that a statement asks for.
pub(super) async fn given(house: &House, caller: &Caller, statement: &Statement) -> Result<Vec<Given>> {
    let asks_for = |name: &str| {
        let mut reads = statement.reads.iter();
        reads.any(|mention| mention.name.is_information_schema() && mention.name.table == name)
    };
    let mut given = Vec::new();
    if asks_for(GRANTS) {
        given.push(rows::of_grants(GRANTS, &people::grants(&house.people, caller).await?)?);
    }
    if asks_for(QUERIES) {
        given.push(rows::of_queries(QUERIES, &queries(house, caller).await?)?);
    }
    let (asks_for_lines, asks_for_usage) = (asks_for(INVOICE_LINES), asks_for(USAGE));
    if asks_for_lines || asks_for_usage {
        let lines = lines(house, caller).await?;
        if asks_for_lines {
            given.push(rows::of_lines(INVOICE_LINES, &lines)?);
        }
        if asks_for_usage {
            given.push(rows::of_usage(USAGE, &lines)?);
        }
    }
    Ok(given)
}

/// The query that `show grants` stands for, with what it reads.
pub(super) async fn shown(house: &House, caller: &Caller, shown: &Shown) -> Result<Slice> {
    let Shown { principal, dataset } = shown;
    let mut all = people::grants(&house.people, caller).await?;
    all.retain(|granted| {
        let is_his = principal.as_ref().is_none_or(|name| granted.principal.as_str() == name);
        let of_dataset = granted.grant.dataset.as_ref().map(|name| name.as_str());
        is_his && dataset.as_deref().is_none_or(|name| of_dataset == Some(name))
    });
    Ok(Slice {
        given: vec![rows::of_grants(GRANTS, &all)?],
        query: Some(format!("select * from information_schema.{GRANTS}")),
        ..Slice::default()
    })
}

/// The newest queries that the caller may see, the newest first.
async fn queries(house: &House, caller: &Caller) -> Result<Vec<QueryRecord>> {
    let mut all: Vec<QueryRecord> = Vec::new();
    while all.len() < QUERIES_SHOWN {
        let filter = visible(
            caller,
            Filter {
                before: all.last().map(|record| record.id.clone()),
                limit: MAX_PAGE,
                ..Filter::default()
            },
        );
        let Some(filter) = filter else { break };
        let page = house.records.list(&caller.project, &filter).await?;
        let is_last = page.len() < MAX_PAGE as usize;
        all.extend(page);
        if is_last {
            break;
        }
    }
    all.truncate(QUERIES_SHOWN);
    Ok(all)
}

/// The newest lines of the ledger, the oldest first.
async fn lines(house: &House, caller: &Caller) -> Result<Vec<LedgerLine>> {
    caller.may(Act::ReadBills)?;
    let head = house.ledger.head(&caller.project).await?;
    let mut after = (head.seq - LINES_SHOWN).max(0);
    let mut all = Vec::new();
    loop {
        let page = house.ledger.lines(&caller.project, after, MAX_PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.seq;
        all.extend(page);
        if after >= head.seq {
            return Ok(all);
        }
    }
}
