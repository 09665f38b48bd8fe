//! Budgets: what a project may spend in a day or a month.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wasmhouse_storage::budgets::Budget;

use super::error::{ApiError, ErrorBody};
use super::extract::{Body, Query};
use super::queries::max_cost_of;
use crate::access::Caller;
use crate::billing::spending::Spent;
use crate::budgets::Budgets;
use crate::error::Error;

/// A budget, and how much of it is spent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BudgetBody {
    /// `project`, `user:ada@example.com` or `label:team:red`.
    scope: String,
    /// `day` or `month`, of UTC.
    period: &'static str,
    amount: String,
    /// With what running queries will cost.
    spent: String,
    /// From which part of it on answers carry a warning, in percent.
    warn_percent: u8,
    begins_again: String,
}

/// The budgets of a project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BudgetList {
    budgets: Vec<BudgetBody>,
}

/// List the project's budgets, and how much of each is spent.
#[utoipa::path(
    get, path = "/v1/budgets", tag = "money",
    responses((status = 200, body = BudgetList), (status = 403, body = ErrorBody))
)]
pub(super) async fn list_budgets(State(budgets): State<Budgets>, caller: Caller) -> Result<Json<BudgetList>, ApiError> {
    let spent = budgets.list(&caller).await?;
    let body = |spent: Spent| BudgetBody {
        scope: spent.budget.scope.to_string(),
        period: spent.budget.period.as_str(),
        amount: spent.budget.amount.to_string(),
        spent: spent.amount.to_string(),
        warn_percent: spent.budget.warn_percent,
        begins_again: spent.begins_again,
    };
    Ok(Json(BudgetList {
        budgets: spent.into_iter().map(body).collect(),
    }))
}

/// A budget to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBudget {
    /// `project`, `user:ada@example.com` or `label:team:red`.
    scope: String,
    /// `day` or `month`, of UTC.
    period: String,
    /// How much may be spent, as a decimal text.
    amount: String,
    /// From which part of it on answers carry a warning, in percent; 80 if absent.
    #[serde(default)]
    warn_percent: Option<u8>,
}

/// Set a budget, or change it. A query that would pass it is refused before it reads anything.
#[utoipa::path(
    put, path = "/v1/budgets", tag = "money", request_body = NewBudget,
    responses((status = 204, description = "It is set"), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody))
)]
pub(super) async fn set_budget(
    State(budgets): State<Budgets>,
    caller: Caller,
    Body(new): Body<NewBudget>,
) -> Result<StatusCode, ApiError> {
    let warn_percent = new.warn_percent.unwrap_or(80);
    if !(1..=100).contains(&warn_percent) {
        return Err(Error::InvalidRequest("warn_percent is from 1 to 100".to_owned()).into());
    }
    let budget = Budget {
        scope: new.scope.parse().map_err(Error::from)?,
        period: new.period.parse().map_err(Error::from)?,
        amount: max_cost_of(&new.amount).map_err(|_| {
            Error::InvalidRequest(format!(
                "{:?} is no amount of money; write a decimal such as 0.25",
                new.amount
            ))
        })?,
        warn_percent,
    };
    budgets.set(&caller, &budget).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which budget.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichBudget {
    /// `project`, `user:ada@example.com` or `label:team:red`.
    scope: String,
    /// `day` or `month`.
    period: String,
}

/// Take a budget away.
#[utoipa::path(
    delete, path = "/v1/budgets", tag = "money", params(WhichBudget),
    responses((status = 204, description = "There is none"), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn delete_budget(
    State(budgets): State<Budgets>,
    caller: Caller,
    Query(which): Query<WhichBudget>,
) -> Result<StatusCode, ApiError> {
    let scope = which.scope.parse().map_err(Error::from)?;
    let period = which.period.parse().map_err(Error::from)?;
    budgets.remove(&caller, &scope, period).await?;
    Ok(StatusCode::NO_CONTENT)
}
