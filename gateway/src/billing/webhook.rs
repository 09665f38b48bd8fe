//! Tells a program of the operators that a budget is nearly spent.

use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::json;
use tracing::warn;
use url::Url;
use wasmhouse_storage::BoxError;
use wasmhouse_storage::ids::ProjectId;

use super::spending::Spent;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where warnings are sent. The address is the operators': a tenant cannot make the house call anybody.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    client: Client,
    url: Url,
}

impl Webhook {
    pub(crate) fn new(url: &str) -> Result<Self, BoxError> {
        let url: Url = url
            .parse()
            .map_err(|error| format!("billing.budget_webhook is no address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("billing.budget_webhook must begin with http:// or https://".into());
        }
        let client = Client::builder().redirect(Policy::none()).timeout(PATIENCE).build()?;
        Ok(Self { client, url })
    }

    /// Sends a warning, and does not wait for it. One that is not heard is in the log.
    pub(crate) fn tell(&self, project: &ProjectId, spent: &Spent) {
        let budget = &spent.budget;
        let body = json!({
            "project": project,
            "scope": budget.scope,
            "period": budget.period,
            "amount": budget.amount,
            "spent": spent.amount,
            "begins_again": spent.begins_again,
        });
        let request = self.client.post(self.url.clone()).json(&body);
        // A warning is worth one try; the budget itself stops what passes it.
        tokio::spawn(async move {
            let sent = request.send().await.and_then(reqwest::Response::error_for_status);
            if let Err(error) = sent {
                warn!("nobody was told that a budget is nearly spent: {}", error.without_url());
            }
        });
    }
}
