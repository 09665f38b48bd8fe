//! `wasmhouse verify-bill`: recomputes an exported ledger, on any machine and without a server.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use wasmhouse_storage::BoxError;

use crate::billing::price::PriceList;
use crate::billing::receipt::{id_of, unhex};
use crate::billing::verify::{Known, Verified, verify};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The ledger: what GET /v1/ledger/export answers
    ledger: PathBuf,
    /// The prices: what GET /v1/prices answers
    #[arg(long, value_name = "FILE")]
    prices: PathBuf,
    /// The keys of receipts: what GET /v1/signing-keys answers
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
}

/// What `GET /v1/prices` answers.
#[derive(Deserialize)]
struct Prices {
    prices: Vec<PriceList>,
}

/// What `GET /v1/signing-keys` answers.
#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    id: String,
    public_key: String,
}

pub(crate) fn run(args: &Args) -> Result<(), BoxError> {
    let Prices { mut prices } = read(&args.prices)?;
    prices.sort_by_key(|list| std::cmp::Reverse(list.from));
    let Keys { keys } = read(&args.keys)?;
    let is_other = |key: &&Key| unhex(&key.public_key).is_none_or(|bytes| id_of(&bytes) != key.id);
    if let Some(key) = keys.iter().find(is_other) {
        return Err(format!("{}: the key {} is not what it is called", args.keys.display(), key.id).into());
    }
    let known = Known {
        prices,
        keys: keys.into_iter().map(|key| (key.id, key.public_key)).collect(),
    };
    let file = args.ledger.display();
    let text = std::fs::read_to_string(&args.ledger).map_err(|error| format!("{file}: {error}"))?;
    let Some(text) = text.strip_suffix('\n') else {
        return Err(format!("{file}: its last line is cut off").into());
    };
    let lines = text.split('\n');
    let Verified {
        project,
        after,
        lines,
        paid,
        free,
        unpriced,
        unsigned,
        at,
        amount,
        currency,
    } = verify(lines, &known).map_err(|broken| format!("{file}, {broken}"))?;
    println!("the ledger of {project} holds: {lines} lines, {paid} queries to be paid, {free} free");
    if let Some(at) = at {
        println!("it is from line {} on, as it was at {}", after + 1, at.to_rfc3339());
    }
    if unpriced > 0 {
        println!("{unpriced} lines have no price");
    }
    if unsigned > 0 {
        println!("{unsigned} lines have no receipt");
    }
    println!("to be paid: {amount} {currency}");
    Ok(())
}

fn read<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<T, BoxError> {
    let named = |error: String| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    Ok(serde_json::from_str(&text).map_err(|error| named(error.to_string()))?)
}
