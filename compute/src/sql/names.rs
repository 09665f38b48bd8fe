//! The names a statement mentions, where it mentions them, and how often once every CTE is written out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Query, Statement as Ast, TableFactor, Visit, Visitor,
};

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
        let fold = |ident: &Ident| {
            if ident.quote_style.is_some() {
                ident.value.clone()
            } else {
                ident.value.to_lowercase()
            }
        };
        match idents.as_slice() {
            [table] => Ok(Self {
                project: None,
                dataset: None,
                table: fold(table),
                line,
                column,
            }),
            [dataset, table] => Ok(Self {
                project: None,
                dataset: Some(fold(dataset)),
                table: fold(table),
                line,
                column,
            }),
            [project, dataset, table] => Ok(Self {
                project: Some(fold(project)),
                dataset: Some(fold(dataset)),
                table: fold(table),
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

/// The tables that `statement` reads, without its own CTEs and without table functions.
pub(super) fn mentions(statement: &Ast) -> Result<Vec<Mention>, SqlError> {
    let mut reader = Reader::default();
    reader.frames.push(Frame::default());
    if let ControlFlow::Break(error) = statement.visit(&mut reader) {
        return Err(error);
    }
    let uses = reader.frames.pop().expect("the outermost frame was pushed above").uses;
    Ok(uses.into_values().collect())
}

/// Walks the tree once. A frame is one query with the CTEs it defines; names are looked up from the inside out.
#[derive(Default)]
struct Reader {
    frames: Vec<Frame>,
    functions: BTreeSet<(u64, u64)>,
}

#[derive(Default)]
struct Frame {
    uses: BTreeMap<String, Mention>,
    /// CTEs by the address of their query, while the tree is borrowed and cannot move.
    pending: BTreeMap<usize, String>,
    ctes: BTreeMap<String, BTreeMap<String, Mention>>,
}

impl Frame {
    fn add(&mut self, uses: &BTreeMap<String, Mention>) {
        for (key, mention) in uses {
            match self.uses.get_mut(key) {
                Some(known) => known.uses = known.uses.saturating_add(mention.uses),
                None => {
                    self.uses.insert(key.clone(), mention.clone());
                }
            }
        }
    }
}

impl Visitor for Reader {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        let mut frame = Frame::default();
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                let name = match cte.alias.name.quote_style {
                    Some(_) => cte.alias.name.value.clone(),
                    None => cte.alias.name.value.to_lowercase(),
                };
                if with.recursive {
                    // It may read itself: the name is in scope before its query is.
                    frame.ctes.insert(name.clone(), BTreeMap::new());
                }
                frame
                    .pending
                    .insert(std::ptr::from_ref::<Query>(&cte.query) as usize, name);
            }
        }
        self.frames.push(frame);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        let done = self.frames.pop().expect("pushed when the query was entered");
        let outer = self
            .frames
            .last_mut()
            .expect("the outermost frame is never popped here");
        match outer.pending.remove(&(std::ptr::from_ref(query) as usize)) {
            Some(name) => {
                outer.ctes.insert(name, done.uses);
            }
            None => outer.add(&done.uses),
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
            None => self
                .frames
                .iter()
                .rev()
                .find_map(|frame| frame.ctes.get(&name.table))
                .cloned(),
            Some(_) => None,
        };
        let uses = cte.unwrap_or_else(|| BTreeMap::from([(name.to_string(), Mention { name, uses: 1 })]));
        self.frames
            .last_mut()
            .expect("there is always an outermost frame")
            .add(&uses);
        ControlFlow::Continue(())
    }
}
