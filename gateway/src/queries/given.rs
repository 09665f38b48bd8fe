//! Tables of `information_schema` that only the gateway can fill: who may do what, what was asked, and what it costs.

mod rows;

use wasmhouse_compute::given::Given;
use wasmhouse_compute::sql::{Shown, Statement};
use wasmhouse_storage::ledger::{LedgerLine, MAX_PAGE};
use wasmhouse_storage::queries::{Filter, QueryRecord};

use super::slice::Slice;
use super::{House, visible};
use crate::access::{Act, Caller};
use crate::error::{Error, Result};
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

/// How many lines of the ledger there are in theirs.
const LINES_SHOWN: i64 = 10_000;

/// How many are added up.
const LINES_ADDED_UP: i64 = 100_000;

/// For how many queries such tables are made at once: they are large, and free.
pub(super) const MADE_AT_ONCE: usize = 2;

/// Those that a statement asks for.
pub(super) async fn given(house: &House, caller: &Caller, statement: &Statement) -> Result<Vec<Given>> {
    let asks_for = |name: &str| {
        let mut reads = statement.reads.iter();
        reads.any(|mention| mention.name.is_information_schema() && mention.name.table == name)
    };
    if !statement
        .reads
        .iter()
        .any(|mention| mention.name.is_information_schema())
    {
        return Ok(Vec::new());
    }
    let _turn = house.given.acquire().await.map_err(|_| Error::Closing)?;
    let mut given = Vec::new();
    if asks_for(GRANTS) {
        given.push(rows::of_grants(GRANTS, &people::grants(&house.people, caller).await?)?);
    }
    if asks_for(QUERIES) {
        given.push(rows::of_queries(QUERIES, &queries(house, caller).await?)?);
    }
    if asks_for(INVOICE_LINES) {
        let mut lines = Vec::new();
        pages(house, caller, LINES_SHOWN, |page| lines.extend(page)).await?;
        given.push(rows::of_lines(INVOICE_LINES, &lines)?);
    }
    if asks_for(USAGE) {
        let mut sums = rows::Sums::default();
        let is_cut = pages(house, caller, LINES_ADDED_UP, |page| {
            page.iter().for_each(|line| sums.add(line))
        })
        .await?;
        if is_cut {
            sums.leave_out_first_day();
        }
        given.push(sums.rows(USAGE)?);
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

/// The newest lines of the ledger, the oldest first, page by page. Says whether there are older ones.
async fn pages(house: &House, caller: &Caller, most: i64, mut each: impl FnMut(Vec<LedgerLine>)) -> Result<bool> {
    caller.may(Act::ReadBills)?;
    let head = house.ledger.head(&caller.project).await?;
    let first = (head.seq - most).max(0);
    let mut after = first;
    while after < head.seq {
        let page = house.ledger.lines(&caller.project, after, MAX_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        each(page);
    }
    Ok(first > 0)
}
