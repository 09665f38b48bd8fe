//! `COPY … TO` becomes an export, which is how files leave a warehouse.

use std::fs;

use serde_json::json;

use crate::answers::Answer;
use crate::copy::CopyTo;
use crate::files::is_scratch;
use crate::formats::{Format, is_layout};
use crate::harness::answers::ApiError;
use crate::runner::{Failure, NOT_HERE, Session};

impl Session<'_> {
    /// Exports the query and keeps the files for the tables that are made of them. The answer is how many rows they have.
    pub(crate) async fn copy(&mut self, copy: CopyTo) -> Result<Answer, Failure> {
        let has_header = options(&copy)?;
        let body = json!({
            "sql": copy.query, "format": copy.format.word(), "name": "suite", "dataset": self.dataset,
        });
        let query = self.caller.post("/v1/exports", body).await.map_err(Failure::from)?;
        let id = query["id"].as_str().expect("an export is a query");
        let query = self.caller.ended(id).await;
        if query["state"] != "done" {
            return Err(ApiError::from_json(200, &query["error"]).into());
        }

        let (mut rows, mut parts) = (0, Vec::new());
        for file in query["files"].as_array().into_iter().flatten() {
            let url = file["url"].as_str().expect("a file has an address");
            let path = url.strip_prefix("file://").unwrap_or(url);
            let mut bytes = fs::read(path).map_err(|error| Failure::new("broken", format!("{path}: {error}")))?;
            if !has_header {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                bytes.drain(..end.map_or(bytes.len(), |end| end + 1));
            }
            rows += file["rows"].as_u64().expect("a file counts its rows");
            parts.push(bytes);
        }
        self.files.keep(&copy.to, copy.format, parts);
        Ok(Answer::of_count(rows))
    }
}

/// Whether the files begin with a line of names. An export always writes it, and here it is taken away again; what else a
/// statement may ask for, an export does not do.
fn options(copy: &CopyTo) -> Result<bool, Failure> {
    if copy.is_partitioned {
        return Err(Failure::new(NOT_HERE, "an export has no option PARTITIONED BY"));
    }
    if !is_scratch(&copy.to) {
        return Err(Failure::new(NOT_HERE, "an export has no option to write elsewhere"));
    }
    let mut has_header = true;
    for (name, value) in &copy.options {
        let value = value.to_ascii_lowercase();
        match (copy.format, name.as_str(), value.as_str()) {
            (Format::Csv, "has_header", "true") | (_, "compression", "uncompressed") => {}
            (Format::Csv, "has_header", "false") => has_header = false,
            (Format::Csv, "delimiter", ",") | (Format::Csv, "double_quote", "true") => {}
            (Format::Parquet, name, _) if is_layout(name) => {}
            _ => return Err(Failure::new(NOT_HERE, format!("an export has no option {name}"))),
        }
    }
    Ok(has_header)
}
