//! What stands in for a table whose columns Delta Lake has no types for, once the product has refused the table by name.
//!
//! If they are declared and nothing but unsigned, and no record of the file asks what type a value has, a table with the
//! narrowest signed types that hold their values. Otherwise a view, of intervals, durations or half numbers for example: it
//! has the rows and the types that the table would have, so what reads it is asked all the same, grows with each `INSERT`,
//! and goes with `DROP TABLE`.

use crate::answers::Answer;
use crate::external::{quoted, signed};
use crate::runner::{Failure, Session};
use crate::words::{Words, declared_columns, list, plain_name};

/// A table that was refused, as a query.
#[derive(Clone, Debug)]
pub(crate) struct StandIn {
    /// As it is written.
    name: String,
    or_replace: bool,
    /// Names, with quotes, and types, if the statement declares them.
    columns: Vec<(String, String)>,
    /// One query for each statement that gave it rows.
    parts: Vec<String>,
}

impl StandIn {
    /// The view for a `CREATE TABLE`.
    fn of(sql: &str) -> Option<Self> {
        let mut words = Words::of(sql);
        if !words.take(&["create"]) {
            return None;
        }
        let or_replace = words.take(&["or", "replace"]);
        if !words.take(&["table"]) {
            return None;
        }
        words.take(&["if", "not", "exists"]);
        let name = words.name()?.to_owned();
        let columns: Vec<(String, String)> = match words.group() {
            Some(text) => list(text).into_iter().map(declared).collect::<Option<_>>()?,
            None => Vec::new(),
        };
        let mut stand_in = Self {
            name,
            or_replace,
            columns,
            parts: Vec::new(),
        };
        if words.is_done() && !stand_in.columns.is_empty() {
            let nothing = vec!["null"; stand_in.columns.len()].join(", ");
            let rows = stand_in.part(&format!("select {nothing}"));
            stand_in.parts.push(format!("{rows} where false"));
            return Some(stand_in);
        }
        if !words.take(&["as"]) {
            return None;
        }
        let rows = stand_in.part(query(&words));
        stand_in.parts.push(rows);
        Some(stand_in)
    }

    /// The view of this name for a query.
    pub(crate) fn of_query(name: &str, query: &str) -> Self {
        Self {
            name: name.to_owned(),
            or_replace: false,
            columns: Vec::new(),
            parts: vec![query.to_owned()],
        }
    }

    /// The rows of a query in the columns that were declared.
    fn part(&self, query: &str) -> String {
        if self.columns.is_empty() {
            return format!("select * from ({query})");
        }
        let places: Vec<String> = (0..self.columns.len()).map(|place| format!("place_{place}")).collect();
        let columns = self.columns.iter().zip(&places);
        let columns = columns.map(|((name, data_type), place)| format!("cast({place} as {data_type}) as {name}"));
        let columns: Vec<String> = columns.collect();
        format!(
            "select {} from ({query}) as given({})",
            columns.join(", "),
            places.join(", ")
        )
    }

    fn create(&self, or_replace: bool) -> String {
        let create = if or_replace {
            "create or replace view"
        } else {
            "create view"
        };
        format!("{create} {} as {}", self.name, self.parts.join(" union all "))
    }
}

/// The statement with signed columns in the place of unsigned ones, if it declares any.
fn with_signed_columns(sql: &str) -> Option<String> {
    let columns = declared_columns(sql)?;
    let mut has_unsigned = false;
    let signed_columns: Option<Vec<String>> = list(columns)
        .into_iter()
        .map(|item| {
            let (name, data_type) = declared(item)?;
            let kept = item.trim_end().to_ascii_uppercase().ends_with("NOT NULL");
            let signed = signed(data_type.clone());
            has_unsigned |= signed != data_type;
            Some(format!("{name} {signed}{}", if kept { " not null" } else { "" }))
        })
        .collect();
    let signed_columns = signed_columns?.join(", ");
    has_unsigned.then(|| sql.replacen(columns, &signed_columns, 1))
}

impl Session<'_> {
    /// Makes a table of signed columns or a view for a table that the product has refused for its types.
    pub(crate) async fn stand_in(&mut self, sql: &str, refused: Failure) -> Result<Answer, Failure> {
        let is_for_its_types = refused.code == "type_mismatch"
            && (refused.message.contains("which a table cannot hold") || refused.message.contains(" exactly: it is "));
        let Some(stand_in) = StandIn::of(sql).filter(|_| is_for_its_types) else {
            return Err(refused);
        };
        if !self.shows_types
            && let Some(signed) = with_signed_columns(sql)
            && self.ask(&signed).await.is_ok()
        {
            return Ok(Answer::default());
        }
        let key = plain_name(&stand_in.name);
        let or_replace = stand_in.or_replace && self.stand_ins.contains_key(&key);
        if self.ask(&stand_in.create(or_replace)).await.is_err() {
            return Err(refused);
        }
        self.stand_ins.insert(key, stand_in);
        Ok(Answer::default())
    }

    /// Makes a view that stands for a table.
    pub(crate) async fn put(&mut self, view: StandIn) -> Result<(), Failure> {
        self.ask(&view.create(false)).await?;
        self.stand_ins.insert(plain_name(&view.name), view);
        Ok(())
    }

    /// What a statement does that changes a table for which a view stands.
    pub(crate) async fn change_stand_in(&mut self, sql: &str) -> Option<Result<Answer, Failure>> {
        if self.stand_ins.is_empty() {
            return None;
        }
        let mut words = Words::of(sql);
        if words.take(&["drop", "table"]) {
            words.take(&["if", "exists"]);
            let name = words.name()?;
            let stand_in = self.stand_ins.remove(&plain_name(name))?;
            return Some(
                self.ask(&format!("drop view {}", stand_in.name))
                    .await
                    .map(|_| Answer::default()),
            );
        }
        if !words.take(&["insert", "into"]) {
            return None;
        }
        let key = plain_name(words.name()?);
        let mut grown = self.stand_ins.get(&key)?.clone();
        // Which columns get the values is for a table to know.
        if words.group().is_some() {
            return None;
        }
        let rows = query(&words);
        grown.parts.push(grown.part(rows));
        Some(self.grow(key, grown, rows).await)
    }

    async fn grow(&mut self, key: String, grown: StandIn, rows: &str) -> Result<Answer, Failure> {
        let counted = self.ask(&format!("select count(*) from ({rows})")).await?;
        let count = counted.rows.first().and_then(|row| row.first()?.parse().ok());
        self.ask(&grown.create(true)).await?;
        self.stand_ins.insert(key, grown);
        Ok(Answer::of_count(count.unwrap_or_default()))
    }
}

/// What is left of a statement, without its end.
fn query<'a>(words: &Words<'a>) -> &'a str {
    words.rest().trim().trim_end_matches(';')
}

/// The name and the type of a declared column that has nothing else.
fn declared(item: &str) -> Option<(String, String)> {
    let mut words = Words::of(item);
    let name = quoted(&plain_name(words.word()?));
    let data_type = words.rest().trim();
    let upper = data_type.to_ascii_uppercase();
    let data_type = match upper.strip_suffix("NOT NULL").or_else(|| upper.strip_suffix("NULL")) {
        Some(kept) => &data_type[..kept.len()],
        None => data_type,
    };
    Some((name, data_type.trim().to_owned())).filter(|(_, data_type)| !data_type.is_empty())
}
