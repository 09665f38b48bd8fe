//! A ledger as a file: JSON lines that can be checked without the house; see [`super::verify`].
//!
//! The first line says whose ledger it is and where it begins, the last one where it ends, signed: without it nobody would notice
//! that lines are missing at the end. In between is a line for each line of the ledger.

use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use wasmhouse_storage::clock::{Clock, Timestamp};
use wasmhouse_storage::ids::ProjectId;
use wasmhouse_storage::ledger::{GENESIS, Head, Ledger, LedgerLine, MAX_PAGE, SignedReceipt};

use super::Billing;
use crate::error::{Error, Result};

/// A line of the file. The order of the fields is that of its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Exported {
    /// The first line.
    #[serde(rename = "$ledger")]
    Begin(Begin),
    /// One line of the ledger.
    #[serde(rename = "line")]
    Line(Line),
    /// The last line: an [`End`], signed.
    #[serde(rename = "$end")]
    End(SignedReceipt),
}

/// Whose ledger it is, and where the file begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {
    pub(crate) project: ProjectId,
    /// The number of the line before the first one of the file.
    pub(crate) after: i64,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) seq: i64,
    pub(crate) entry: String,
    pub(crate) prev_hash: String,
    pub(crate) hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<SignedReceipt>,
}

/// Where the ledger ended when it was exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    pub(crate) project: ProjectId,
    /// The line before the first one of the file, and its hash.
    pub(crate) after: i64,
    pub(crate) after_hash: String,
    /// The last line of the ledger, and its hash.
    pub(crate) seq: i64,
    pub(crate) hash: String,
    /// When it was exported.
    pub(crate) at: Timestamp,
}

impl Exported {
    /// Its text, with a line feed.
    pub(crate) fn text(&self) -> Result<String> {
        let mut text = serde_json::to_string(self).map_err(|error| Error::Internal(error.into()))?;
        text.push('\n');
        Ok(text)
    }
}

/// The file: the lines after `after` up to the one that is the last now.
pub(crate) async fn lines(
    ledger: Ledger,
    billing: &Billing,
    project: ProjectId,
    after: i64,
) -> Result<impl Stream<Item = Result<String>> + use<>> {
    let Head { seq: last, hash } = ledger.head(&project).await?;
    let after_hash = match after {
        0 => GENESIS,
        after if after <= last => {
            let line = ledger.lines(&project, after - 1, 1).await?;
            line.first().map(|line| line.hash).unwrap_or(GENESIS)
        }
        after => {
            let message = format!("`after` is {after}, and the ledger ends with line {last}");
            return Err(Error::InvalidRequest(message));
        }
    };
    let begin = Exported::Begin(Begin {
        project: project.clone(),
        after,
    });
    let end = End {
        project: project.clone(),
        after,
        after_hash: hex::encode(after_hash),
        seq: last,
        hash: hex::encode(hash),
        at: Clock::System.now(),
    };
    let end = serde_json::to_string(&end).map_err(|error| Error::Internal(error.into()))?;
    let end = Exported::End(billing.sign(end));

    let pages = stream::try_unfold(after, move |after| {
        let (ledger, project) = (ledger.clone(), project.clone());
        async move {
            let left = u32::try_from(last.saturating_sub(after)).unwrap_or(MAX_PAGE);
            let page = ledger.lines(&project, after, left.min(MAX_PAGE)).await?;
            Ok::<_, Error>(page.last().map(|line| line.seq).map(|seq| (page, seq)))
        }
    });
    let pages = pages.map_ok(|page| {
        let texts: Result<String> = page
            .into_iter()
            .map(|line| Exported::Line(Line::from(line)).text())
            .collect();
        texts
    });
    let pages = pages.map(|page| page.and_then(|texts| texts));
    let first = stream::iter([begin.text()]);
    Ok(first.chain(pages).chain(stream::iter([end.text()])))
}

impl From<LedgerLine> for Line {
    fn from(line: LedgerLine) -> Self {
        Self {
            seq: line.seq,
            entry: line.entry,
            prev_hash: hex::encode(line.prev_hash),
            hash: hex::encode(line.hash),
            receipt: line.receipt,
        }
    }
}
