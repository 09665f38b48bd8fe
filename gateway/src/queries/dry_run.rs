//! What a statement would read, told without running it.

use wasmhouse_compute::sql::{Kind, Statement};
use wasmhouse_compute::task::{Action, Planned};
use wasmhouse_storage::catalog::Relation;
use wasmhouse_storage::ids::{QueryId, TableName};
use wasmhouse_storage::tables::TableLocation;

use super::attempt::plan_only;
use super::flight::{resolve, task};
use super::given::shown;
use super::{DryRun, House, Options, slice};
use crate::access::{Act, Caller};
use crate::billing::Terms;
use crate::billing::price::Counts;
use crate::error::Result;
use crate::sight::Sight;

/// What a statement would read, asked of a worker that then runs nothing.
pub(super) async fn dry_run(house: &House, caller: &Caller, statement: Statement, options: Options) -> Result<DryRun> {
    caller.may(Act::Run)?;
    house.quotas.quote(&caller.project)?;
    let sight = Sight::new(&house.catalog, caller);
    let terms = house.billing.terms(house.clock.now(), options.most(), caller.defaults);
    let also = match &statement.kind {
        Kind::Insert { into, .. } => Some(slice::table_name(sight, options.dataset.as_ref(), into).await?),
        Kind::Query | Kind::Explain | Kind::ShowGrants(_) | Kind::CreateTable { .. } | Kind::CreateView { .. } => None,
        _ => {
            return quoted(&terms, reads_nothing(), Vec::new());
        }
    };
    let slice = match &statement.kind {
        Kind::ShowGrants(what) => shown(house, caller, what).await?,
        _ => resolve(house, sight, &options, &statement, also.as_ref()).await?,
    };
    let sql = slice.query.clone().unwrap_or_else(|| statement.text.clone());
    let names = slice
        .relations
        .iter()
        .filter_map(|relation| match relation {
            Relation::Table(table) => Some((table.name.clone(), table.location.clone())),
            Relation::View(_) => None,
        })
        .collect();
    let now = house.clock.now();
    let task = task(
        house,
        &QueryId::new(now),
        &caller.project,
        now,
        sql,
        &options,
        slice,
        Action::Return,
    );
    let mut planned = plan_only(house, task).await?;
    if matches!(statement.kind, Kind::CreateView { .. }) {
        // Whoever reads the view pays for that.
        planned = Planned {
            schema: planned.schema,
            ..reads_nothing()
        };
    }
    quoted(&terms, planned, names)
}

fn quoted(terms: &Terms, planned: Planned, names: Vec<(TableName, TableLocation)>) -> Result<DryRun> {
    let cost = terms.cost(Counts {
        bytes_processed: planned.bytes_processed,
        bytes_loaded: 0,
    })?;
    Ok(DryRun {
        planned,
        names,
        cost,
        max_cost: terms.max_cost,
    })
}

fn reads_nothing() -> Planned {
    Planned {
        schema: "{\"fields\":[],\"metadata\":{}}".to_owned(),
        bytes_processed: 0,
        bytes_to_read: 0,
        partitions: 1,
        tables: Vec::new(),
        is_shareable: false,
    }
}
