//! The rows of a statement take their places in the columns of a table.
//!
//! The engine's planner casts them there: the rows of INSERT and of CREATE TABLE with columns, and every VALUES inside of
//! them. A cast rounds in silence, so the statement's query is planned once more by itself, and its rows are cast here:
//! [`exactly`], or not at all.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{
    DdlStatement, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection, Values, lit,
};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{CreateTable, Insert, Query, SetExpr, Statement as Ast};

use super::exactly;
use crate::Error;
use crate::dependencies;
use crate::session::{statement, with_microseconds};
use crate::task::Task;
use crate::worker::head::Stop;

/// The rows that `task` writes into `table`, or into a table that it makes. `planned` are they as the engine has planned
/// them: a query, and above it a projection on the columns of the table if the statement knows them.
pub(in crate::worker) async fn take_places(
    state: &SessionState,
    task: &Task,
    planned: LogicalPlan,
    table: Option<SchemaRef>,
) -> Result<LogicalPlan, Stop> {
    let Parsed::Statement(ast) = statement(state, &task.sql)? else {
        return Ok(planned);
    };
    let (mut query, columns) = match (*ast, table) {
        (
            Ast::Insert(Insert {
                source: Some(query), ..
            }),
            Some(table),
        ) => (query, nullable(&table)),
        (Ast::CreateTable(mut create), None) if !create.columns.is_empty() => match create.query.take() {
            Some(query) => (query, declared_columns(state, create).await?),
            None => return Ok(planned),
        },
        _ => return Ok(planned),
    };
    let sources = sources(&planned)?;

    let rows = match lay_into_one_row(&mut query) {
        Some(width) => {
            let plan = plan(state, task, query).await?;
            values(plan, &targets(&columns, &sources, width)?)?
        }
        None => plan(state, task, query).await?,
    };
    let places = columns.fields().iter().zip(sources).map(|(column, source)| {
        let value = match source {
            Some(source) => Expr::Column(Column::from(rows.schema().qualified_field(source))),
            None => lit(ScalarValue::Null),
        };
        let is_there = source.is_some_and(|source| rows.schema().field(source).data_type() == column.data_type());
        let value = match is_there && column.is_nullable() {
            true => value,
            false => exactly::in_column(value, column),
        };
        value.alias(column.name())
    });
    let places: Vec<Expr> = places.collect();
    Ok(LogicalPlanBuilder::from(rows).project(places)?.build()?)
}

/// The columns of a table that is there. Whoever writes its files knows which of them must not be NULL.
fn nullable(table: &Schema) -> Schema {
    let fields = table.fields().iter();
    let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
    Schema::new(fields.collect::<Fields>())
}

/// The columns that a new table is declared with.
async fn declared_columns(state: &SessionState, create: CreateTable) -> Result<Schema, Stop> {
    let statement = Parsed::Statement(Box::new(Ast::CreateTable(create)));
    match state.statement_to_plan(statement).await? {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
            Ok(with_microseconds(create.input.schema().as_arrow()).as_ref().clone())
        }
        _ => Err(unexpected("a table without a query is not a table")),
    }
}

/// For each column of the table, which column of the query it gets.
fn sources(planned: &LogicalPlan) -> Result<Vec<Option<usize>>, Stop> {
    let LogicalPlan::Projection(Projection { expr, input, .. }) = planned else {
        return Err(unexpected("the rows of a table are not a projection"));
    };
    let source = |place: &Expr| {
        let column = place.column_refs().into_iter().next();
        column.map(|column| input.schema().index_of_column(column)).transpose()
    };
    let sources: Result<Vec<_>, DataFusionError> = expr.iter().map(source).collect();
    Ok(sources?)
}

/// For each column of the query, which column of the table gets it.
fn targets<'a>(columns: &'a Schema, sources: &[Option<usize>], width: usize) -> Result<Vec<&'a Field>, Stop> {
    let targets = (0..width).map(|place| {
        let column = sources.iter().position(|source| *source == Some(place));
        column.map(|column| columns.field(column))
    });
    let targets: Option<Vec<&Field>> = targets.collect();
    targets.ok_or_else(|| unexpected("a column of VALUES goes nowhere"))
}

/// Makes one long row of all rows, if the query is VALUES and nothing else, and gives the width they had. In a row of its
/// own a value has its own type; below one another they would agree on one that changes some of them.
fn lay_into_one_row(query: &mut Query) -> Option<usize> {
    let is_bare = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.pipe_operators.is_empty();
    let SetExpr::Values(values) = query.body.as_mut() else {
        return None;
    };
    if !is_bare {
        return None;
    }
    let mut rows = std::mem::take(&mut values.rows).into_iter();
    let mut row = rows.next()?;
    let width = row.content.len();
    row.content.extend(rows.flat_map(|row| row.content));
    values.rows = vec![row];
    Some(width)
}

/// The rows again, of a `plan` of one long row, with the types of their columns.
fn values(plan: LogicalPlan, columns: &[&Field]) -> Result<LogicalPlan, Stop> {
    let LogicalPlan::Values(Values { values, .. }) = plan else {
        return Err(unexpected("VALUES are planned as something else"));
    };
    let nothing = DFSchema::empty();
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    for value in values.into_iter().flatten() {
        let column = columns[row.len()];
        let is_there = value.get_type(&nothing)? == *column.data_type();
        row.push(match is_there {
            true => value,
            false => exactly::in_column(value, column),
        });
        if row.len() == columns.len() {
            rows.push(std::mem::take(&mut row));
        }
    }
    let fields = columns.iter().enumerate().map(|(place, column)| {
        let name = format!("column{}", place + 1);
        Field::new(name, column.data_type().clone(), true)
    });
    let schema = DFSchema::from_unqualified_fields(fields.collect(), HashMap::new())?;
    Ok(LogicalPlanBuilder::values_with_schema(rows, &Arc::new(schema))?.build()?)
}

async fn plan(state: &SessionState, task: &Task, query: Box<Query>) -> Result<LogicalPlan, Stop> {
    let statement = Parsed::Statement(Box::new(Ast::Query(query)));
    let plan = dependencies::logical_plan(state, statement).await?;
    Ok(match task.params.is_empty() {
        true => plan,
        false => plan.with_param_values(task.params.bind(state).await?)?,
    })
}

fn unexpected(what: &str) -> Stop {
    Stop::Failed(Error::Internal(what.into()))
}
