//! Budgets: what a project may spend in a day or a month of UTC, in all, by somebody in it, or under a label.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::audit::{Actor, Deed, Who};
use crate::catalog::Catalog;
use crate::catalog::db::{self, Db};
use crate::ids::{InvalidName, ProjectId};
use crate::money::Money;
use crate::{Error, Result};

/// The most budgets that one project has: each query is compared with all that it falls under.
pub const MOST: usize = 100;

/// Whose spending a budget bounds. As text `project`, `user:ada@example.com`, `label:team:red`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// All of the project.
    Project,
    /// What somebody asks, by his name.
    User(String),
    /// What has a label of this name and value.
    Label(String, String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Project => f.write_str("project"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Label(name, value) => write!(f, "label:{name}:{value}"),
        }
    }
}

impl FromStr for Scope {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let label = |rest: &str| {
            let (name, value) = rest.split_once(':')?;
            Some(Self::Label(name.to_owned(), value.to_owned()))
        };
        let scope = match text.split_once(':') {
            None if text == "project" => Some(Self::Project),
            // Keys of the project itself have no name; theirs is the word for them.
            Some(("user", name)) => name.parse::<Who>().is_ok().then(|| Self::User(name.to_owned())),
            Some(("label", rest)) => label(rest),
            _ => None,
        };
        let is_sound = text.len() <= 500 && !text.chars().any(char::is_control);
        scope.filter(|_| is_sound).ok_or_else(|| {
            InvalidName::new(
                text,
                "is nothing that a budget can bound: write project, user:ada@example.com or label:team:red",
            )
        })
    }
}

impl TryFrom<String> for Scope {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

/// How long a budget lasts before it begins again, in days and months of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Until midnight.
    Day,
    /// Until the first of the next month.
    Month,
}

impl Period {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

impl FromStr for Period {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "day" => Ok(Self::Day),
            "month" => Ok(Self::Month),
            _ => Err(InvalidName::new(text, "is neither day nor month")),
        }
    }
}

/// What may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// By whom.
    pub scope: Scope,
    /// In which time.
    pub period: Period,
    /// How much.
    pub amount: Money,
    /// From which part of it on a warning is given, in percent.
    pub warn_percent: u8,
}

/// The budgets of all projects. A clone sees the same.
#[derive(Clone, Debug)]
pub struct Budgets {
    db: Db,
}

impl Budgets {
    /// Those recorded beside `catalog`.
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            db: catalog.db().clone(),
        }
    }

    /// A project's budgets, by scope and period.
    pub async fn list(&self, project: &ProjectId) -> Result<Vec<Budget>> {
        db::budgets::list(&mut *self.db.reader().await?, project).await
    }

    /// Sets a budget, or changes it.
    pub async fn set(&self, project: &ProjectId, budget: &Budget, by: &Actor) -> Result<()> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        db::budgets::put(&mut tx, project, budget).await?;
        if db::budgets::list(&mut tx, project).await?.len() > MOST {
            return Err(Error::Invalid(format!("a project has at most {MOST} budgets")));
        }
        let Budget {
            scope,
            period,
            amount,
            warn_percent,
        } = budget;
        let object = format!(
            "{scope}, {amount} in a {}, warning from {warn_percent} %",
            period.as_str()
        );
        db::audit::insert(&mut tx, project, &Deed::done(by, "set_budget", object), now).await?;
        tx.commit().await
    }

    /// Takes a budget away: there is no bound of this kind any more.
    pub async fn remove(&self, project: &ProjectId, scope: &Scope, period: Period, by: &Actor) -> Result<()> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        let period_word = period.as_str();
        if !db::budgets::delete(&mut tx, project, scope, period).await? {
            return Err(Error::NotFound(format!(
                "there is no budget of {scope} for a {period_word}"
            )));
        }
        let object = format!("{scope}, a {period_word}");
        db::audit::insert(&mut tx, project, &Deed::done(by, "remove_budget", object), now).await?;
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::db::tests::{asker, worlds};

    fn budget(scope: &str, amount: &str) -> Budget {
        Budget {
            scope: scope.parse().expect("a scope"),
            period: Period::Day,
            amount: amount.parse().expect("money"),
            warn_percent: 80,
        }
    }

    #[tokio::test]
    async fn a_budget_is_set_changed_and_taken_away_and_all_of_it_is_written_down() {
        for world in worlds().await {
            let budgets = Budgets::new(&world.catalog);
            let (project, by) = (&world.acme, asker());
            for (scope, amount) in [
                ("user:ada", "1"),
                ("project", "20.5"),
                ("user:ada", "2"),
                ("label:team:red", "3"),
            ] {
                world.clock.advance(std::time::Duration::from_millis(1));
                budgets.set(project, &budget(scope, amount), &by).await.expect("set");
            }

            let all = budgets.list(project).await.expect("a list");
            assert_eq!(
                all,
                [
                    budget("label:team:red", "3"),
                    budget("project", "20.5"),
                    budget("user:ada", "2")
                ]
            );
            let ada = "user:ada".parse().expect("a scope");
            world.clock.advance(std::time::Duration::from_millis(1));
            budgets
                .remove(project, &ada, Period::Day, &by)
                .await
                .expect("it is there");
            let twice = budgets
                .remove(project, &ada, Period::Day, &by)
                .await
                .expect_err("it is gone");
            assert_eq!(twice.to_string(), "there is no budget of user:ada for a day");
            let log = crate::audit::Audit::new(&world.catalog)
                .lines(project, None, 2)
                .await
                .expect("lines");
            assert_eq!(
                (log[0].deed.act.as_str(), log[0].deed.object.as_str()),
                ("remove_budget", "user:ada, a day")
            );
            assert_eq!(log[1].deed.object, "label:team:red, 3 in a day, warning from 80 %");
            world.close().await;
        }
    }

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        for text in [
            "project",
            "user:ada@example.com",
            "user:(project)",
            "label:team:red",
            "label:a:b:c",
        ] {
            assert_eq!(text.parse::<Scope>().expect("a scope").to_string(), text);
        }
        for text in ["", "projects", "user:", "user:Ada Lovelace", "label:team", "team:red"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }
}
