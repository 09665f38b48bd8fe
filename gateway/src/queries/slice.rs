//! The names of a statement, resolved: a slice of the catalog at one instant.

use std::collections::{BTreeMap, BTreeSet};

use wasmhouse_compute::given::Given;
use wasmhouse_compute::sql::suggest::nearest;
use wasmhouse_compute::sql::{Limits, Name, Statement};
use wasmhouse_compute::{Code, SqlError};
use wasmhouse_storage::catalog::Relation;
use wasmhouse_storage::ids::{DatasetName, TableName};

use crate::error::Result;
use crate::sight::Sight;

/// Everything that the names of one statement can mean.
#[derive(Default)]
pub(super) struct Slice {
    /// What it reads and writes, views after what they read.
    pub(super) relations: Vec<Relation>,
    /// The project's other names, when it asks for names.
    pub(super) listed: Vec<Relation>,
    /// The project's datasets, when it asks for names.
    pub(super) datasets: Vec<DatasetName>,
    /// Tables of `information_schema` that only the gateway can fill, when it asks for them.
    pub(super) given: Vec<Given>,
    /// The query that the statement stands for, if it is not one itself.
    pub(super) query: Option<String>,
}

/// Resolves what `statement` reads, and `also` what it writes to if that has to exist.
pub(super) async fn resolve(
    sight: Sight<'_>,
    dataset: Option<&DatasetName>,
    statement: &Statement,
    also: Option<&TableName>,
    limits: &Limits,
) -> Result<Slice> {
    let mut uses: BTreeMap<TableName, u64> = BTreeMap::new();
    for mention in &statement.reads {
        if !mention.name.is_information_schema() {
            let name = table_name(sight, dataset, &mention.name).await?;
            *uses.entry(name).or_default() += mention.uses;
        }
    }

    let found = closure(sight, uses.keys().chain(also).cloned().collect()).await?;
    for mention in &statement.reads {
        if mention.name.is_information_schema() {
            continue;
        }
        let name = table_name(sight, dataset, &mention.name).await?;
        if !found.contains_key(&name) {
            return Err(no_such(sight, &mention.name, &name.to_string()).await?.into());
        }
    }
    readable(sight, &found)?;
    let expanded = uses.iter().fold(0u64, |sum, (name, uses)| {
        sum.saturating_add(uses.saturating_mul(weight(name, &found, 0)))
    });
    if expanded > limits.expansions {
        let message = format!(
            "the statement reads {expanded} tables once its views are written out, more than the {} it may",
            limits.expansions
        );
        return Err(SqlError::new(Code::TooComplex, message).into());
    }

    let mut slice = Slice {
        relations: in_order(&found),
        ..Slice::default()
    };
    if statement.lists_names {
        slice.listed = sight.relations(None).await?;
        slice.datasets = sight
            .datasets()
            .await?
            .into_iter()
            .map(|dataset| dataset.name)
            .collect();
    }
    Ok(slice)
}

/// The table that a written name means. Another project's names mean nothing here, and are answered as missing ones are.
pub(super) async fn table_name(sight: Sight<'_>, dataset: Option<&DatasetName>, name: &Name) -> Result<TableName> {
    let missing = |message: String| SqlError::new(Code::UnknownTable, message).at(name.line, name.column);
    let own = name
        .project
        .as_deref()
        .is_none_or(|other| other == sight.caller().project.as_str());
    let dataset = match &name.dataset {
        Some(dataset) => dataset.parse().ok(),
        None => match dataset {
            Some(dataset) => Some(dataset.clone()),
            None => {
                let message =
                    format!("no table named {name}; write dataset.{name}, or send a `dataset` with the query");
                return Err(missing(message).into());
            }
        },
    };
    match dataset.map(|dataset| TableName::new(dataset, &name.table)) {
        Some(Ok(known)) if own => Ok(known),
        _ => Err(no_such(sight, name, &name.to_string()).await?.into()),
    }
}

/// What to say of a name that means nothing here, with the nearest that does.
pub(super) async fn no_such(sight: Sight<'_>, name: &Name, meant: &str) -> Result<SqlError> {
    let known = sight.relations(None).await?;
    let known: Vec<String> = known.iter().map(|relation| relation.name().to_string()).collect();
    let hint = nearest(meant, known.iter().map(String::as_str));
    let hint = hint.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Ok(SqlError::new(Code::UnknownTable, format!("no table named {meant}{hint}")).at(name.line, name.column))
}

/// The named relations and everything their views read, all at one instant: the last look-up asks for all of them.
async fn closure(sight: Sight<'_>, mut names: BTreeSet<TableName>) -> Result<BTreeMap<TableName, Relation>> {
    while !names.is_empty() {
        let wanted: Vec<TableName> = names.iter().cloned().collect();
        let found: BTreeMap<TableName, Relation> = sight
            .resolve(&wanted)
            .await?
            .into_iter()
            .flatten()
            .map(|relation| (relation.name().clone(), relation))
            .collect();
        let before = names.len();
        for relation in found.values() {
            if let Relation::View(view) = relation {
                names.extend(view.depends.iter().cloned());
            }
        }
        if names.len() == before {
            return Ok(found);
        }
    }
    Ok(BTreeMap::new())
}

/// Who reads a view reads what it reads. What of that he may not read is as if it were not there, and is not named.
fn readable(sight: Sight<'_>, found: &BTreeMap<TableName, Relation>) -> Result<()> {
    if sight.caller().sees_all() {
        // What is missing is gone, and the worker will say what it was.
        return Ok(());
    }
    let broken = found.values().find_map(|relation| match relation {
        Relation::View(view) if view.depends.iter().any(|inner| !found.contains_key(inner)) => Some(&view.name),
        _ => None,
    });
    match broken {
        None => Ok(()),
        Some(view) => {
            let message = format!("the view {view} reads something that is not there for you; ask who owns it");
            Err(SqlError::new(Code::UnknownTable, message).into())
        }
    }
}

/// How many tables are read when `name` is read once.
fn weight(name: &TableName, found: &BTreeMap<TableName, Relation>, depth: usize) -> u64 {
    match found.get(name) {
        // Views of views cannot go round, since each is made of what was there; the bound is for a damaged catalog.
        Some(Relation::View(view)) if depth < 64 => view
            .depends
            .iter()
            .fold(0u64, |sum, inner| sum.saturating_add(weight(inner, found, depth + 1)))
            .max(1),
        Some(Relation::View(_)) => u64::MAX,
        _ => 1,
    }
}

/// Tables first, then each view after what it reads.
fn in_order(found: &BTreeMap<TableName, Relation>) -> Vec<Relation> {
    let mut ordered: Vec<Relation> = Vec::with_capacity(found.len());
    let mut placed: BTreeSet<TableName> = BTreeSet::new();
    while placed.len() < found.len() {
        let before = placed.len();
        for (name, relation) in found {
            let ready = match relation {
                Relation::Table(_) => true,
                Relation::View(view) => view
                    .depends
                    .iter()
                    .all(|inner| placed.contains(inner) || !found.contains_key(inner)),
            };
            if ready && placed.insert(name.clone()) {
                ordered.push(relation.clone());
            }
        }
        if placed.len() == before {
            // Views that read each other have no order; the worker will say that they no longer work.
            ordered.extend(
                found
                    .iter()
                    .filter(|(name, _)| !placed.contains(*name))
                    .map(|(_, relation)| relation.clone()),
            );
            break;
        }
    }
    ordered
}
