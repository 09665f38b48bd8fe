//! The names a statement mentions, where it mentions them, and how often once every CTE is written out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Query, TableFactor, Visit, Visitor};

use super::limits::{Limits, too_complex};
use crate::{Code, SqlError};

/// A name as it was written, one to three parts: `table`, `dataset.table`, `project.dataset.table`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The first of three parts.
    pub project: Option<String>,
    /// The part before the last dot.
    pub dataset: Option<String>,
    /// The last part.
    pub table: String,
    /// Where it stands, from 1.
    pub line: u64,
    /// Where it stands, from 1.
    pub column: u64,
}

impl Name {
    /// Reads a name out of the tree; unquoted parts are folded to lower case as SQL does.
    pub(super) fn read(name: &ObjectName) -> Result<Self, SqlError> {
        let mut parts = name.0.iter().map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(ident),
            ObjectNamePart::Function(_) => Err(SqlError::new(Code::InvalidSql, format!("{name} is not a name"))),
        });
        let mut idents: Vec<&Ident> = Vec::new();
        for part in parts.by_ref() {
            idents.push(part?);
        }
        let start = idents.first().map(|ident| ident.span.start);
        let (line, column) = start.map_or((0, 0), |start| (start.line, start.column));
        match idents.as_slice() {
            [table] => Ok(Self {
                project: None,
                dataset: None,
                table: folded(table),
                line,
                column,
            }),
            [dataset, table] => Ok(Self {
                project: None,
                dataset: Some(folded(dataset)),
                table: folded(table),
                line,
                column,
            }),
            [project, dataset, table] => Ok(Self {
                project: Some(folded(project)),
                dataset: Some(folded(dataset)),
                table: folded(table),
                line,
                column,
            }),
            _ => Err(SqlError::new(
                Code::InvalidSql,
                format!("{name} has too many parts; a table is project.dataset.table"),
            )
            .at(line, column)),
        }
    }

    /// True for `information_schema.tables` and its siblings, in any project.
    pub fn is_information_schema(&self) -> bool {
        self.dataset.as_deref() == Some("information_schema")
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.project, &self.dataset].into_iter().flatten() {
            write!(f, "{part}.")?;
        }
        f.write_str(&self.table)
    }
}

/// A table or view that a statement reads.
#[derive(Clone, Debug)]
pub struct Mention {
    /// As it was written, where it was written first.
    pub name: Name,
    /// How many times it would be read if every CTE were written out where it is used.
    pub uses: u64,
}

/// The tables that `query` reads, without its own CTEs and without table functions, if they are no more than it may read.
pub(super) fn mentions(query: &Query, limits: &Limits) -> Result<Vec<Mention>, SqlError> {
    let mut reader = Reader::default();
    reader.open.push(Reads::default());
    reader.scopes.push(Scope::default());
    if let ControlFlow::Break(error) = query.visit(&mut reader) {
        return Err(error);
    }

    let whole = reader.open.pop().expect("the query's own part was pushed above");
    let mut written_out = WrittenOut::new(&reader.closed);
    written_out.add(&whole, 1);
    // A CTE reads only those that ended before it, so the last comes first: by then all its readers were written out.
    for (index, reads) in reader.closed.iter().enumerate().rev() {
        // One that nobody reads is planned all the same.
        let times = written_out.times[index].max(1);
        written_out.add(reads, times);
    }
    if written_out.total > limits.expansions {
        return Err(too_complex(format!(
            "the statement reads {} tables once its CTEs are written out, more than the {} it may",
            written_out.total, limits.expansions
        )));
    }
    Ok(written_out.tables.into_values().collect())
}

/// Walks the tree once. A scope is one query with the CTEs it defines; names are looked up from the inside out.
///
/// What a CTE reads is kept once, however often the CTE is read, so the walk takes as long as the text is.
#[derive(Default)]
struct Reader {
    scopes: Vec<Scope>,
    /// What the query reads and the CTEs that are being walked, the innermost last.
    open: Vec<Reads>,
    /// What the CTEs read that have been walked.
    closed: Vec<Reads>,
    functions: BTreeSet<(u64, u64)>,
}

/// What one CTE reads, or the query itself: the names that stand in it, with how often they do.
#[derive(Default)]
struct Reads {
    tables: BTreeMap<String, Mention>,
    /// CTEs, by their index in [`Reader::closed`].
    ctes: BTreeMap<usize, u64>,
}

#[derive(Default)]
struct Scope {
    /// True for the query of a CTE.
    is_cte: bool,
    /// CTEs that are to be walked, by the address of their query: the tree is borrowed and cannot move.
    pending: BTreeMap<usize, Pending>,
    /// CTEs that can be read here. One without an index is the CTE that is being walked, and reads itself.
    ctes: BTreeMap<String, Option<usize>>,
}

struct Pending {
    name: String,
    reads_itself: bool,
}

impl Visitor for Reader {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        let mut scope = Scope::default();
        let around = self.scopes.last().expect("there is always an outermost scope");
        if let Some(pending) = around.pending.get(&address(query)) {
            scope.is_cte = true;
            if pending.reads_itself {
                scope.ctes.insert(pending.name.clone(), None);
            }
            self.open.push(Reads::default());
        }
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                let pending = Pending {
                    name: folded(&cte.alias.name),
                    reads_itself: with.recursive,
                };
                scope.pending.insert(address(&cte.query), pending);
            }
        }
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        let done = self.scopes.pop().expect("pushed when the query was entered");
        if done.is_cte {
            let reads = self.open.pop().expect("pushed when the CTE was entered");
            let around = self.scopes.last_mut().expect("a CTE is inside a query");
            if let Some(pending) = around.pending.remove(&address(query)) {
                around.ctes.insert(pending.name, Some(self.closed.len()));
            }
            self.closed.push(reads);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<SqlError> {
        if let TableFactor::Table {
            name, args: Some(_), ..
        }
        | TableFactor::Function { name, .. } = factor
            && let Some(ident) = name.0.first().and_then(ObjectNamePart::as_ident)
        {
            self.functions.insert((ident.span.start.line, ident.span.start.column));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<SqlError> {
        let name = match Name::read(relation) {
            Ok(name) => name,
            Err(error) => return ControlFlow::Break(error),
        };
        if self.functions.contains(&(name.line, name.column)) {
            return ControlFlow::Continue(());
        }
        let cte = match &name.dataset {
            None => self.scopes.iter().rev().find_map(|scope| scope.ctes.get(&name.table)),
            Some(_) => None,
        };
        let reads = self.open.last_mut().expect("the query itself is always open");
        match cte {
            Some(Some(index)) => *reads.ctes.entry(*index).or_default() += 1,
            Some(None) => {}
            None => {
                let mention = reads.tables.entry(name.to_string());
                mention.or_insert(Mention { name, uses: 0 }).uses += 1;
            }
        }
        ControlFlow::Continue(())
    }
}

/// The statement with every CTE in the places where it is read.
struct WrittenOut {
    tables: BTreeMap<String, Mention>,
    /// How often each CTE is read.
    times: Vec<u64>,
    total: u64,
}

impl WrittenOut {
    fn new(ctes: &[Reads]) -> Self {
        Self {
            tables: BTreeMap::new(),
            times: vec![0; ctes.len()],
            total: 0,
        }
    }

    fn add(&mut self, reads: &Reads, times: u64) {
        for (index, uses) in &reads.ctes {
            let known = &mut self.times[*index];
            *known = known.saturating_add(uses.saturating_mul(times));
        }
        for (key, mention) in &reads.tables {
            let uses = mention.uses.saturating_mul(times);
            self.total = self.total.saturating_add(uses);
            let known = self.tables.entry(key.clone()).or_insert_with(|| Mention {
                name: mention.name.clone(),
                uses: 0,
            });
            known.uses = known.uses.saturating_add(uses);
        }
        // Values and functions weigh as much as a table where they are written out again and again.
        if reads.tables.is_empty() && reads.ctes.is_empty() {
            self.total = self.total.saturating_add(times);
        }
    }
}

fn address(query: &Query) -> usize {
    std::ptr::from_ref(query) as usize
}

/// A name as SQL compares it: without quotes it is lower case.
fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}
