//! Invoices: the ledger of a month, added up, for programs, spreadsheets and people.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use wasmhouse_storage::ledger::Ledger;

use super::error::{ApiError, ErrorBody};
use crate::access::{Act, Caller};
use crate::billing::invoice::{Invoice, Month, Share, invoice, lines_of, months};

/// The months of which there are invoices, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MonthsBody {
    months: Vec<String>,
}

/// What a project has to pay for a month of UTC. An amount is a decimal text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InvoiceBody {
    project: String,
    month: String,
    currency: String,
    /// The first and the last line of the ledger that it is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<[i64; 2]>,
    /// To the last digit.
    total: ShareBody,
    /// The amount of the total, rounded down once to six decimals.
    to_pay: String,
    by_day: BTreeMap<String, ShareBody>,
    /// By who asked: a user, a service account, or `(project)` for keys of the project itself.
    by_user: BTreeMap<String, ShareBody>,
    by_kind: BTreeMap<String, ShareBody>,
    /// For each label by its values; what does not have the label is not among them.
    by_label: BTreeMap<String, BTreeMap<String, ShareBody>>,
    /// By what was read. What is not paid for reading is under the empty name.
    by_dataset: BTreeMap<String, ShareBody>,
}

/// A part of what is to be paid.
#[derive(Debug, Serialize, ToSchema)]
struct ShareBody {
    /// Queries that are paid for.
    queries: u64,
    /// Queries that are free.
    free: u64,
    bytes_processed: u64,
    amount: String,
}

impl From<&Share> for ShareBody {
    fn from(share: &Share) -> Self {
        let Share {
            queries,
            free,
            bytes_processed,
            amount,
        } = share;
        Self {
            queries: *queries,
            free: *free,
            bytes_processed: *bytes_processed,
            amount: amount.to_string(),
        }
    }
}

impl From<&Invoice> for InvoiceBody {
    fn from(invoice: &Invoice) -> Self {
        let shares = |shares: &BTreeMap<String, Share>| {
            let shares = shares
                .iter()
                .map(|(name, share)| (name.clone(), ShareBody::from(share)));
            shares.collect()
        };
        Self {
            project: invoice.project.to_string(),
            month: invoice.month.to_string(),
            currency: invoice.currency.clone(),
            lines: invoice.lines.map(|(first, last)| [first, last]),
            total: (&invoice.total).into(),
            to_pay: invoice.to_pay.to_string(),
            by_day: shares(&invoice.by_day),
            by_user: shares(&invoice.by_user),
            by_kind: shares(&invoice.by_kind),
            by_label: invoice
                .by_label
                .iter()
                .map(|(label, values)| (label.clone(), shares(values)))
                .collect(),
            by_dataset: shares(&invoice.by_dataset),
        }
    }
}

/// List the months of which there are invoices.
#[utoipa::path(get, path = "/v1/invoices", tag = "money", responses((status = 200, body = MonthsBody)))]
pub(super) async fn list_invoices(State(ledger): State<Ledger>, caller: Caller) -> Result<Json<MonthsBody>, ApiError> {
    caller.may(Act::ReadBills)?;
    let months = months(&ledger, &caller.project).await?;
    Ok(Json(MonthsBody {
        months: months.iter().map(Month::to_string).collect(),
    }))
}

/// Read what the project has to pay for a month, such as `2026-11`.
///
/// JSON, or a table (`text/csv`) or a page to print (`text/html`), as `Accept` says. A month that is over never changes.
#[utoipa::path(
    get, path = "/v1/invoices/{month}", tag = "money", params(("month" = String, Path)),
    responses((status = 200, body = InvoiceBody), (status = 400, body = ErrorBody))
)]
pub(super) async fn get_invoice(
    State(ledger): State<Ledger>,
    caller: Caller,
    Path(month): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let month = Month::read(&month)?;
    caller.may(Act::ReadBills)?;
    let lines = lines_of(&ledger, &caller.project, month).await?;
    let invoice = invoice(caller.project, month, &lines);
    let wanted = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let first = wanted.split([',', ';']).next().unwrap_or_default().trim();
    Ok(match first {
        "text/csv" => ([(CONTENT_TYPE, "text/csv; charset=utf-8")], csv(&invoice)).into_response(),
        "text/html" => {
            let headers = [
                (CONTENT_TYPE, "text/html; charset=utf-8"),
                // Names in it are a tenant's; nothing in it runs, or is fetched.
                (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
            ];
            (headers, html(&invoice)).into_response()
        }
        _ => Json(InvoiceBody::from(&invoice)).into_response(),
    })
}

/// Every part of every sum: its title, its name, and the part.
fn parts(invoice: &Invoice) -> Vec<(String, &str, &Share)> {
    let mut parts = vec![("total".to_owned(), "", &invoice.total)];
    for (title, shares) in [
        ("day", &invoice.by_day),
        ("user", &invoice.by_user),
        ("kind", &invoice.by_kind),
        ("dataset", &invoice.by_dataset),
    ] {
        parts.extend(
            shares
                .iter()
                .map(|(name, share)| (title.to_owned(), name.as_str(), share)),
        );
    }
    for (label, values) in &invoice.by_label {
        parts.extend(
            values
                .iter()
                .map(|(value, share)| (format!("label {label}"), value.as_str(), share)),
        );
    }
    parts
}

fn csv(invoice: &Invoice) -> String {
    let mut text = "project,month,by,name,queries,free,bytes_processed,amount,currency\r\n".to_owned();
    for (by, name, share) in parts(invoice) {
        let Share {
            queries,
            free,
            bytes_processed,
            amount,
        } = share;
        let (by, name) = (quoted(&by), quoted(name));
        let _ = write!(
            text,
            "{},{},{by},{name},{queries},{free},{bytes_processed},{amount},{}\r\n",
            invoice.project, invoice.month, invoice.currency
        );
    }
    text
}

/// A cell that is text in every spreadsheet, whatever a tenant has written into it.
fn quoted(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        "'"
    } else {
        ""
    };
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

fn html(invoice: &Invoice) -> String {
    let (project, month) = (escaped(&invoice.project.to_string()), invoice.month);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Invoice {project} {month}</title>\
         <style>body{{font:15px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c}}\
         table{{border-collapse:collapse;width:100%;margin:1rem 0;page-break-inside:avoid}}\
         th,td{{text-align:left;padding:.25rem .5rem;border-bottom:1px solid #ddd}}\
         th+th,td+td{{text-align:right;font-variant-numeric:tabular-nums}}h1{{font-size:1.5rem}}h2{{font-size:1.1rem}}</style>\
         <h1>Invoice for {project}, {month}</h1><p>To pay: <strong>{} {}</strong></p>",
        invoice.to_pay,
        escaped(&invoice.currency)
    );
    if let Some((first, last)) = invoice.lines {
        let _ = write!(
            page,
            "<p>Lines {first} to {last} of the ledger; the exact sum is {}.</p>",
            invoice.total.amount
        );
    }
    let mut title_before = String::new();
    for (title, name, share) in parts(invoice) {
        if title != title_before {
            if !title_before.is_empty() {
                page.push_str("</table>");
            }
            let _ = write!(
                page,
                "<h2>{}</h2><table><tr><th>{0}<th>queries<th>free<th>bytes processed<th>amount",
                escaped(&title)
            );
            title_before = title;
        }
        let name = if name.is_empty() {
            "–".to_owned()
        } else {
            escaped(name)
        };
        let Share {
            queries,
            free,
            bytes_processed,
            amount,
        } = share;
        let _ = write!(
            page,
            "<tr><td>{name}<td>{queries}<td>{free}<td>{bytes_processed}<td>{amount}"
        );
    }
    page.push_str("</table></html>\n");
    page
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::{escaped, quoted};

    #[test]
    fn what_a_tenant_has_written_is_text() {
        assert_eq!(
            escaped("<b>\"R&D\"</b>'"),
            "&lt;b&gt;&quot;R&amp;D&quot;&lt;/b&gt;&#39;"
        );
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=1+1"), "\"'=1+1\"");
    }
}
