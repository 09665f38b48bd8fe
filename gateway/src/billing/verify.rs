//! Checks an exported ledger without the house: every line is where it was, says what was signed, and costs what its price list
//! says.

use std::collections::{BTreeMap, HashSet};

use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::{ProjectId, QueryId};
use wasmhouse_storage::ledger::{GENESIS, LedgerLine, SignedReceipt, chained, receipt_hash};
use wasmhouse_storage::money::Money;
use wasmhouse_storage::queries::QueryState;

use super::export::{Begin, End, Exported, Line};
use super::price::{Counts, PriceList, cost, free, in_force, why_free};
use super::receipt::{Receipt, is_signed, unhex};

/// What bills are checked with.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The newest first.
    pub(crate) prices: Vec<PriceList>,
    /// Public keys by their ids.
    pub(crate) keys: BTreeMap<String, String>,
}

/// A ledger that holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) project: ProjectId,
    /// The line before the first one.
    pub(crate) after: i64,
    pub(crate) lines: u64,
    /// Queries that are paid for.
    pub(crate) paid: u64,
    /// Queries that are free.
    pub(crate) free: u64,
    /// Lines without a price, of a version that kept none.
    pub(crate) unpriced: u64,
    /// Lines without a receipt, of a version that signed none.
    pub(crate) unsigned: u64,
    /// When it was exported.
    pub(crate) at: Option<Timestamp>,
    /// What is to be paid in all.
    pub(crate) amount: Money,
    pub(crate) currency: String,
}

/// The first line that does not hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub(crate) struct Broken {
    /// Its number in the file, from 1.
    pub(crate) line: usize,
    pub(crate) why: String,
}

/// How far the file is.
struct Check<'a> {
    known: &'a Known,
    /// The hash of the last line of the ledger so far. It is not known before the first, unless nothing comes before that.
    hash: Option<[u8; 32]>,
    /// The hash that the first line of the file follows.
    first: Option<[u8; 32]>,
    queries: HashSet<QueryId>,
    so_far: Verified,
}

/// Checks the lines of a file, each without its line feed.
pub(crate) fn verify<'a>(lines: impl Iterator<Item = &'a str>, known: &Known) -> Result<Verified, Broken> {
    let mut lines = lines.enumerate().map(|(index, text)| (index + 1, text));
    let at = |line| move |why: String| Broken { line, why };
    let (number, first) = lines.next().ok_or_else(|| at(1)("the file is empty".to_owned()))?;
    let Exported::Begin(Begin { project, after }) = read(first).map_err(at(number))? else {
        return Err(at(number)("it is not the beginning of a ledger".to_owned()));
    };
    let mut check = Check::new(known, project, after);
    let mut last = number;
    for (number, text) in lines.by_ref() {
        last = number;
        match read(text).map_err(at(number))? {
            Exported::Begin(_) => return Err(at(number)("another ledger begins in the middle".to_owned())),
            Exported::Line(line) => check.line(line).map_err(at(number))?,
            Exported::End(end) => {
                check.end(&end).map_err(at(number))?;
                return match lines.next() {
                    Some((after, _)) => Err(at(after)("there is something behind the end".to_owned())),
                    None => Ok(check.so_far),
                };
            }
        }
    }
    Err(at(last + 1)(
        "the end of the ledger is missing, and with it perhaps lines before it".to_owned(),
    ))
}

/// A line of the file, which must be written as it was exported, to the byte.
fn read(text: &str) -> Result<Exported, String> {
    let exported: Exported = serde_json::from_str(text).map_err(|error| format!("it cannot be read: {error}"))?;
    let again = exported.text().map_err(|error| error.to_string())?;
    match again.strip_suffix('\n') == Some(text) {
        true => Ok(exported),
        false => Err("it is not written as it was exported".to_owned()),
    }
}

impl<'a> Check<'a> {
    fn new(known: &'a Known, project: ProjectId, after: i64) -> Self {
        Self {
            known,
            hash: (after == 0).then_some(GENESIS),
            first: (after == 0).then_some(GENESIS),
            queries: HashSet::new(),
            so_far: Verified {
                project,
                after,
                lines: 0,
                paid: 0,
                free: 0,
                unpriced: 0,
                unsigned: 0,
                at: None,
                amount: Money::ZERO,
                currency: String::new(),
            },
        }
    }

    /// The last line of the ledger so far.
    fn seq(&self) -> i64 {
        self.so_far.after.saturating_add_unsigned(self.so_far.lines)
    }

    fn line(&mut self, exported: Line) -> Result<(), String> {
        let Line {
            seq,
            entry,
            prev_hash,
            hash,
            receipt,
        } = exported;
        let expected = self.seq().saturating_add(1);
        if seq != expected {
            return Err(format!("line {expected} of the ledger is missing; this is line {seq}"));
        }
        let (prev_hash, hash) = (hash_of(&prev_hash)?, hash_of(&hash)?);
        if self.hash.is_some_and(|before| before != prev_hash) {
            return Err("it does not follow the line before it: one of them was changed".to_owned());
        }
        if chained(&prev_hash, &entry) != hash {
            return Err("it was changed: its hash is another".to_owned());
        }
        let line = LedgerLine::read(entry, prev_hash, hash, receipt)
            .map_err(|_| "what it says cannot be read; a newer version may know more".to_owned())?;
        if (&line.project, line.seq) != (&self.so_far.project, seq) {
            return Err(format!("it is line {} of {}", line.seq, line.project));
        }
        if !self.queries.insert(line.query.clone()) {
            return Err(format!("query {} has a line already", line.query));
        }
        self.first.get_or_insert(prev_hash);
        let receipt = self.receipt(&line)?;
        self.cost(&line, receipt.as_ref())?;
        self.hash = Some(hash);
        self.so_far.lines += 1;
        Ok(())
    }

    /// What was signed must be what the line says.
    fn receipt(&mut self, line: &LedgerLine) -> Result<Option<Receipt>, String> {
        let Some(signed) = &line.receipt else {
            return match &line.receipt_hash {
                Some(_) => Err("its receipt is missing".to_owned()),
                None => {
                    self.so_far.unsigned += 1;
                    Ok(None)
                }
            };
        };
        if line.receipt_hash.as_deref() != Some(&receipt_hash(&signed.text)) {
            return Err("its receipt was changed, or is another line's".to_owned());
        }
        self.signature(signed)?;
        let receipt: Receipt =
            serde_json::from_str(&signed.text).map_err(|error| format!("its receipt cannot be read: {error}"))?;
        let says = (
            &receipt.project,
            &receipt.query,
            &receipt.kind,
            receipt.outcome,
            &receipt.usage,
            Some(&receipt.cost),
        );
        let is_same = says
            == (
                &line.project,
                &line.query,
                &line.kind,
                line.outcome,
                &line.usage,
                line.cost.as_ref(),
            );
        if !is_same {
            return Err("its receipt says something else".to_owned());
        }
        let read: u64 = receipt.tables.iter().map(|table| table.bytes).sum();
        match line.outcome == QueryState::Done && read != line.usage.bytes_processed {
            true => Err(format!(
                "it is billed for {} bytes, and its receipt says that {read} were read",
                line.usage.bytes_processed
            )),
            false => Ok(Some(receipt)),
        }
    }

    fn signature(&self, signed: &SignedReceipt) -> Result<(), String> {
        let SignedReceipt { text, signature, key } = signed;
        let public = self.known.keys.get(key);
        let public = public.ok_or_else(|| format!("it is signed with the key {key}, which is not known"))?;
        match is_signed(public, text, signature) {
            true => Ok(()),
            false => Err(format!("its signature is not that of the key {key}")),
        }
    }

    /// What it costs must be what its price list says, and that must be the one in force.
    fn cost(&mut self, line: &LedgerLine, receipt: Option<&Receipt>) -> Result<(), String> {
        let Some(said) = &line.cost else {
            self.so_far.unpriced += 1;
            return Ok(());
        };
        let version = &said.prices;
        let list = self.known.prices.iter().find(|list| list.version == *version);
        let list = list.ok_or_else(|| format!("the price list {version} is not known"))?;
        let in_force = receipt.and_then(|receipt| in_force(&self.known.prices, receipt.created_at));
        if let Some(in_force) = in_force
            && in_force.version != *version
        {
            return Err(format!(
                "it is priced by the list {version}, and {} was in force",
                in_force.version
            ));
        }
        if said.free != why_free(line.outcome) {
            return Err(format!(
                "it ended as {}, which does not cost what it says",
                line.outcome
            ));
        }
        let should = match said.free {
            Some(why) => free(list, why),
            None => cost(list, Counts::from(&line.usage)).map_err(|error| error.to_string())?,
        };
        if *said != should {
            return Err(format!(
                "it says {} {}, and what it counts costs {} {}",
                said.amount, said.currency, should.amount, should.currency
            ));
        }
        let so_far = &mut self.so_far;
        if !so_far.currency.is_empty() && so_far.currency != said.currency {
            return Err(format!(
                "it is in {}, and lines before it in {}",
                said.currency, so_far.currency
            ));
        }
        so_far.amount = [so_far.amount, said.amount].into_iter().sum();
        so_far.currency.clone_from(&said.currency);
        match said.free {
            Some(_) => so_far.free += 1,
            None => so_far.paid += 1,
        }
        Ok(())
    }

    fn end(&mut self, signed: &SignedReceipt) -> Result<(), String> {
        self.signature(signed)?;
        let end: End = serde_json::from_str(&signed.text)
            .map_err(|error| format!("the end of the ledger cannot be read: {error}"))?;
        if end.project != self.so_far.project {
            return Err(format!("it is the end of the ledger of {}", end.project));
        }
        if end.seq != self.seq() {
            return Err(format!(
                "the ledger ends with line {}; line {} is missing",
                end.seq,
                self.seq().saturating_add(1)
            ));
        }
        if end.after != self.so_far.after || self.first.is_some_and(|first| hex::encode(first) != end.after_hash) {
            return Err(format!(
                "the file begins after line {}, and says {}",
                end.after, self.so_far.after
            ));
        }
        if self.hash.is_some_and(|hash| hex::encode(hash) != end.hash) {
            return Err("it is the end of another ledger: its hash is another".to_owned());
        }
        self.so_far.at = Some(end.at);
        Ok(())
    }
}

fn hash_of(text: &str) -> Result<[u8; 32], String> {
    let bytes = unhex(text).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("{text:?} is no hash"))
}

#[cfg(test)]
mod tests;
