//! The native door: `/v1`. The only folder that knows `axum`.
//!
//! A handler reads the request, calls one use case, shapes the answer. One file for each resource.

mod admin;
mod auth;
mod budgets;
mod datasets;
mod diagnostics;
mod error;
mod exports;
mod extract;
mod invoices;
mod ledger;
mod listen;
mod load;
mod money;
mod people;
mod protocol;
mod queries;
mod results;
mod sql;
mod tables;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::http::HeaderName;
use axum::middleware;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ledger::Ledger;

use crate::app::App;
use crate::billing::Billing;
use crate::budgets::Budgets;
use crate::error::{Error, Result as UseResult};
use crate::people::People;
use crate::queries::Queries;
use crate::tables::Tables;
use auth::BearerKey;

/// The most that a request other than an upload may weigh, after decompression.
const BODY_BYTES: usize = 2 << 20;

/// What a handler can reach.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) app: Arc<App>,
    pub(crate) upload_bytes: u64,
    pub(crate) metrics: PrometheusHandle,
}

impl FromRef<Door> for Queries {
    fn from_ref(door: &Door) -> Self {
        door.app.queries.clone()
    }
}

impl FromRef<Door> for Tables {
    fn from_ref(door: &Door) -> Self {
        door.app.tables.clone()
    }
}

impl FromRef<Door> for Budgets {
    fn from_ref(door: &Door) -> Self {
        door.app.budgets.clone()
    }
}

impl FromRef<Door> for People {
    fn from_ref(door: &Door) -> Self {
        door.app.people.clone()
    }
}

impl FromRef<Door> for Ledger {
    fn from_ref(door: &Door) -> Self {
        door.app.ledger.clone()
    }
}

impl FromRef<Door> for Billing {
    fn from_ref(door: &Door) -> Self {
        door.app.billing.clone()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Wasmhouse",
        description = "A serverless data warehouse: SQL over HTTP on Delta Lake tables.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(error::ErrorBody)),
    modifiers(&BearerKey),
    security(("key" = []))
)]
struct Contract;

/// Every route there is, with its page in the contract.
fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::with_openapi(Contract::openapi())
        // Statements.
        .routes(routes!(queries::create_query, queries::list::list_queries))
        .routes(routes!(queries::get_query))
        .routes(routes!(queries::cancel_query))
        .routes(routes!(queries::profile::get_profile))
        .routes(routes!(exports::create_export))
        // Data.
        .routes(routes!(datasets::list_datasets, datasets::create_dataset))
        .routes(routes!(datasets::get_dataset, datasets::delete_dataset))
        .routes(routes!(tables::list_tables, tables::create_table))
        .routes(routes!(tables::get_table, tables::delete_table))
        .routes(routes!(tables::list_versions))
        // People.
        .routes(routes!(people::get_project, people::change_project))
        .routes(routes!(people::list_principals, people::create_principal))
        .routes(routes!(people::get_principal, people::change_principal))
        .routes(routes!(
            people::grants::list_grants,
            people::grants::create_grant,
            people::grants::delete_grant
        ))
        .routes(routes!(people::keys::list_api_keys, people::keys::create_api_key))
        .routes(routes!(people::keys::delete_api_key))
        .routes(routes!(people::tokens::create_token))
        .routes(routes!(people::audit::list_audit))
        // Operators.
        .routes(routes!(admin::list_projects, admin::create_project))
        .routes(routes!(admin::create_project_key))
        // Money.
        .routes(routes!(ledger::list_ledger))
        .routes(routes!(
            budgets::list_budgets,
            budgets::set_budget,
            budgets::delete_budget
        ))
        .routes(routes!(money::list_prices))
        .routes(routes!(invoices::list_invoices))
        .routes(routes!(invoices::get_invoice))
        .routes(routes!(money::list_keys))
        // The house itself.
        .routes(routes!(diagnostics::healthz))
        .routes(routes!(diagnostics::readyz))
        .routes(routes!(diagnostics::metrics))
        .routes(routes!(diagnostics::openapi))
        // Rows, and the only answers that may break off.
        .merge(
            OpenApiRouter::new()
                .routes(routes!(sql::run_sql))
                .routes(routes!(queries::pages::get_results))
                .routes(routes!(ledger::export_ledger))
                .layer(middleware::from_fn(protocol::tells_cuts)),
        )
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        // An upload is as large as it is; its own limit counts what it writes.
        .merge(
            OpenApiRouter::new()
                .routes(routes!(load::load_table))
                .layer(DefaultBodyLimit::disable()),
        )
}

/// The contract as it is checked in: `gateway/openapi.json`.
pub(crate) fn openapi_json() -> String {
    let contract = routes().split_for_parts().1;
    let mut text = contract
        .to_pretty_json()
        .expect("the contract is made of strings and lists");
    text.push('\n');
    text
}

fn router(door: Door) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .layer(middleware::from_fn_with_state(door.clone(), auth::write_down_denials))
        .fallback(diagnostics::nowhere)
        .method_not_allowed_fallback(diagnostics::not_this_way)
        .layer(middleware::from_fn(protocol::is_unpacked))
        .layer(RequestDecompressionLayer::new().no_gzip().pass_through_unaccepted(true))
        .layer(middleware::from_fn(protocol::unpack_gzip))
        .layer(CompressionLayer::new())
        .layer(CatchPanicLayer::custom(error::from_panic))
        .layer(SetResponseHeaderLayer::if_not_present(
            HeaderName::from_static("x-content-type-options"),
            axum::http::HeaderValue::from_static("nosniff"),
        ))
        .with_state(door)
}

/// An instant as requests write it.
fn instant(text: &str) -> UseResult<Timestamp> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text)
        .map_err(|_| Error::InvalidRequest(format!("{text:?} is not an instant; write 2026-01-31T12:00:00Z")))?;
    Ok(Timestamp::from_micros(parsed.timestamp_micros()))
}

/// Serves until `stop` completes, then lets open requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    door: Door,
    stop: impl Future<Output = ()> + Send + 'static,
    patience: Duration,
) {
    listen::listen(listener, router(door), stop, patience).await;
}
