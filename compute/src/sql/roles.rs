//! `grant role … to …`, `revoke role … from …` and `show grants`: who may do what.

use datafusion::sql::sqlparser::ast::{
    Action, Grant, GrantObjects, Grantee, GranteeName, GranteesType, Ident, ObjectName, Privileges, Revoke,
};

use super::names::Name;
use crate::{Code, SqlError};

/// How roles are given.
const HOW: &str =
    "write `grant role viewer on schema shop to \"ada@example.com\"`, or leave out `on schema` for the whole project";

/// The most roles that one statement gives or takes, each to one of its principals.
const MOST: usize = 100;

/// Who gets or loses which roles, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Which.
    pub roles: Vec<String>,
    /// In which dataset, with the project it was written with, if any. None: in the whole project.
    pub dataset: Option<(Option<String>, String)>,
    /// Who.
    pub principals: Vec<String>,
}

/// Whose grants are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Only those of somebody.
    pub principal: Option<String>,
    /// Only those on a dataset.
    pub dataset: Option<String>,
}

/// What a `grant` gives.
pub(super) fn granted(grant: &Grant) -> Result<Roles, SqlError> {
    let Grant {
        privileges,
        objects,
        grantees,
        with_grant_option,
        as_grantor,
        granted_by,
        current_grants,
    } = grant;
    if *with_grant_option || as_grantor.is_some() || granted_by.is_some() || current_grants.is_some() {
        return Err(not_supported(format!(
            "a grant says which role, where and to whom; {HOW}"
        )));
    }
    roles(privileges, objects.as_ref(), grantees)
}

/// What a `revoke` takes.
pub(super) fn revoked(revoke: &Revoke) -> Result<Roles, SqlError> {
    let Revoke {
        privileges,
        objects,
        grantees,
        granted_by,
        cascade,
    } = revoke;
    if granted_by.is_some() || cascade.is_some() {
        return Err(not_supported(
            "a revoke says which role, where and from whom; write `revoke role viewer on schema shop from \"ada@example.com\"`",
        ));
    }
    roles(privileges, objects.as_ref(), grantees)
}

fn roles(privileges: &Privileges, objects: Option<&GrantObjects>, grantees: &[Grantee]) -> Result<Roles, SqlError> {
    let Privileges::Actions(actions) = privileges else {
        return Err(not_supported(format!("privileges come as roles here; {HOW}")));
    };
    let role = |action: &Action| match action {
        Action::Role { role } => one_word(role),
        other => Err(not_supported(format!(
            "{} is not a role; privileges come as roles here; {HOW}",
            other.to_string().to_lowercase()
        ))),
    };
    let dataset = match objects {
        None => None,
        Some(GrantObjects::Schemas(schemas)) => match schemas.as_slice() {
            [schema] => Some(dataset(schema)?),
            _ => return Err(not_supported("a grant names one schema; send one statement for each")),
        },
        Some(_) => {
            return Err(not_supported(format!(
                "a role is had for a schema or for the whole project; {HOW}"
            )));
        }
    };
    if actions.len().saturating_mul(grantees.len()) > MOST {
        return Err(SqlError::new(
            Code::TooComplex,
            format!("the statement gives or takes more than the {MOST} roles that one may; send several"),
        ));
    }
    Ok(Roles {
        roles: actions.iter().map(role).collect::<Result<_, _>>()?,
        dataset,
        principals: grantees.iter().map(principal).collect::<Result<_, _>>()?,
    })
}

fn principal(grantee: &Grantee) -> Result<String, SqlError> {
    let Grantee { grantee_type, name } = grantee;
    match (grantee_type, name) {
        (GranteesType::None | GranteesType::User, Some(GranteeName::ObjectName(name))) => one_word(name),
        (GranteesType::None | GranteesType::User, Some(GranteeName::UserHost { user, host })) => {
            Ok(format!("{}@{}", folded(user), folded(host)))
        }
        _ => Err(not_supported(format!(
            "{grantee} cannot have a role: only users and service accounts can; {HOW}"
        ))),
    }
}

/// `show grants`, `show grants for somebody`, `show grants on schema shop`. None: the statement shows something else.
pub(super) fn shown(words: &[Ident]) -> Option<Result<Shown, SqlError>> {
    let (first, rest) = words.split_first()?;
    if !is_word(first, "grants") {
        return None;
    }
    let mut shown = Shown::default();
    let mut rest = rest;
    loop {
        match rest {
            [] => return Some(Ok(shown)),
            [word, name, more @ ..] if is_word(word, "for") && shown.principal.is_none() => {
                shown.principal = Some(folded(name));
                rest = more;
            }
            [on, schema, name, more @ ..]
                if is_word(on, "on") && is_word(schema, "schema") && shown.dataset.is_none() =>
            {
                shown.dataset = Some(folded(name));
                rest = more;
            }
            _ => {
                let message =
                    "write `show grants`, `show grants for \"ada@example.com\"` or `show grants on schema shop`";
                return Some(Err(SqlError::new(Code::InvalidSql, message)));
            }
        }
    }
}

/// `dataset` or `project.dataset`.
pub(super) fn dataset(name: &ObjectName) -> Result<(Option<String>, String), SqlError> {
    let read = Name::read(name)?;
    match (read.project, read.dataset) {
        (None, project) => Ok((project, read.table)),
        (Some(_), _) => Err(SqlError::new(
            Code::InvalidSql,
            format!("{name} has too many parts; a schema is project.dataset"),
        )
        .at(read.line, read.column)),
    }
}

fn one_word(name: &ObjectName) -> Result<String, SqlError> {
    let Name {
        project,
        dataset,
        table,
        line,
        column,
    } = Name::read(name)?;
    match (project, dataset) {
        (None, None) => Ok(table),
        _ => Err(SqlError::new(
            Code::InvalidSql,
            format!("{name} is several names; put one that has dots into double quotes"),
        )
        .at(line, column)),
    }
}

fn is_word(word: &Ident, wanted: &str) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted)
}

/// As names are folded: lower case, unless they are quoted.
fn folded(word: &Ident) -> String {
    match word.quote_style {
        None => word.value.to_lowercase(),
        Some(_) => word.value.clone(),
    }
}

fn not_supported(message: impl Into<String>) -> SqlError {
    SqlError::new(Code::NotSupported, message)
}
