//! Who may enter a project, what they may do there, and the keys that they hold.
//!
//! # Invariants
//! - A key is kept as its hash. Whoever reads the database has no key.
//! - A principal is disabled, never removed: his name in a bill or in the audit log means him for ever.
//! - What is changed here is written with its line in the audit log, in one transaction.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::audit::{Actor, Deed};
use crate::budgets::Budget;
use crate::catalog::db::{self, Db};
use crate::catalog::{Catalog, Effect};
use crate::clock::Timestamp;
use crate::ids::{DatasetName, InvalidName, KeyId, PrincipalName, ProjectId};
use crate::money::Money;
use crate::{Error, Result};

/// What somebody may do, in a project or in one of its datasets. What each allows is for the gateway to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Owner,
    /// Reads and writes.
    Editor,
    /// Reads.
    Viewer,
    /// Sends statements, which the project pays for.
    QueryRunner,
    /// Publishes functions.
    FunctionPublisher,
    /// Reads bills.
    BillingViewer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Owner,
        Self::Editor,
        Self::Viewer,
        Self::QueryRunner,
        Self::FunctionPublisher,
        Self::BillingViewer,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Editor => "editor",
            Self::Viewer => "viewer",
            Self::QueryRunner => "query_runner",
            Self::FunctionPublisher => "function_publisher",
            Self::BillingViewer => "billing_viewer",
        }
    }

    /// Whether it can be had for a dataset alone.
    pub fn is_of_datasets(self) -> bool {
        match self {
            Self::Owner | Self::Editor | Self::Viewer | Self::FunctionPublisher => true,
            Self::QueryRunner | Self::BillingViewer => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|role| role.as_str()).collect();
            let text: String = text.chars().take(100).collect();
            Error::Invalid(format!("no role named {text}; the roles are {}", words.join(", ")))
        })
    }
}

/// A role, in the whole project or in one dataset.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// What may be done.
    pub role: Role,
    /// Where. None: in the whole project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetName>,
}

impl Grant {
    /// A role, if it can be had there.
    pub fn new(role: Role, dataset: Option<DatasetName>) -> Result<Self> {
        match &dataset {
            Some(dataset) if !role.is_of_datasets() => Err(Error::Invalid(format!(
                "{role} is a role in the project, and cannot be had for the dataset {dataset} alone"
            ))),
            _ => Ok(Self { role, dataset }),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.dataset {
            Some(dataset) => write!(f, "{} on {dataset}", self.role),
            None => write!(f, "{}", self.role),
        }
    }
}

/// A person or a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A program.
    ServiceAccount,
}

impl PrincipalKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ServiceAccount => "service_account",
        }
    }
}

impl FromStr for PrincipalKind {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "user" => Ok(Self::User),
            "service_account" => Ok(Self::ServiceAccount),
            _ => Err(InvalidName::new(text, "is neither user nor service_account")),
        }
    }
}

/// What a query may cost and process if it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// Money. None: what the next one says.
    pub max_cost: Option<Money>,
    /// Bytes processed. None: what the next one says.
    pub max_bytes: Option<u64>,
}

impl fmt::Display for Defaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_cost, max_bytes } = self;
        match max_cost {
            Some(most) => write!(f, "max_cost {most}")?,
            None => f.write_str("no max_cost")?,
        }
        match max_bytes {
            Some(most) => write!(f, ", max_bytes {most}"),
            None => f.write_str(", no max_bytes"),
        }
    }
}

impl Defaults {
    /// These, and where they say nothing, others.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            max_cost: self.max_cost.or(others.max_cost),
            max_bytes: self.max_bytes.or(others.max_bytes),
        }
    }
}

/// Somebody who may enter a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What he is called.
    pub name: PrincipalName,
    /// A person or a program.
    pub kind: PrincipalKind,
    /// Since when.
    pub created_at: Timestamp,
    /// Since when not any more.
    pub disabled_at: Option<Timestamp>,
    /// What his queries may cost if they do not say.
    pub defaults: Defaults,
    /// What he may do.
    pub grants: Vec<Grant>,
}

/// A grant, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Who has it.
    pub principal: PrincipalName,
    /// What he may do.
    pub grant: Grant,
    /// Since when.
    pub at: Timestamp,
    /// Who gave it.
    pub by: String,
}

/// A key that is to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What it is called. Names are not used twice.
    pub name: String,
    /// Whose it is. None: the project's own.
    pub principal: Option<PrincipalName>,
    /// What it may be used for at most. None: whatever its holder may do.
    pub scope: Option<Vec<Grant>>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// What is written down of it.
impl fmt::Display for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            principal,
            scope,
            expires_at,
        } = self;
        write!(f, "{name}")?;
        if let Some(principal) = principal {
            write!(f, ", for {principal}")?;
        }
        if let Some(scope) = scope {
            let scope: Vec<String> = scope.iter().map(Grant::to_string).collect();
            write!(f, ", at most {}", scope.join(" and "))?;
        }
        match expires_at {
            Some(end) => write!(f, ", until {}", end.to_rfc3339()),
            None => Ok(()),
        }
    }
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Which one.
    pub id: KeyId,
    /// What it is called.
    pub name: String,
    /// Whose it is. None: the project's own.
    pub principal: Option<PrincipalName>,
    /// What it may be used for at most.
    pub scope: Option<Vec<Grant>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was taken away.
    pub revoked_at: Option<Timestamp>,
}

/// What a good key opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The project.
    pub project: ProjectId,
    /// Which key it was.
    pub key: KeyId,
    /// Who holds it. None: the project itself, which may do everything.
    pub principal: Option<PrincipalName>,
    /// What he may do.
    pub grants: Vec<Grant>,
    /// What the key may be used for at most.
    pub scope: Option<Vec<Grant>>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// What a query may cost if it does not say: his own word, and where he has none the project's.
    pub defaults: Defaults,
    /// What the project may spend, in all and by parts.
    pub budgets: Vec<Budget>,
}

/// The principals and keys of all projects. A clone sees the same.
#[derive(Clone, Debug)]
pub struct People {
    catalog: Catalog,
    db: Db,
}

impl People {
    /// Those recorded beside `catalog`.
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            catalog: catalog.clone(),
            db: catalog.db().clone(),
        }
    }

    /// Creates a project, with an empty ledger and a first key of its own, of which only the hash is kept.
    pub async fn create_project(&self, project: &ProjectId, hash: &[u8; 32], by: &Actor) -> Result<()> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        if !db::names::insert_project(&mut tx, project, now).await? {
            return Err(Error::AlreadyExists(format!("project {project} already exists")));
        }
        let key = NewKey {
            name: "first".to_owned(),
            principal: None,
            scope: None,
            expires_at: None,
        };
        db::people::insert_key(&mut tx, project, &key, hash, by, now).await?;
        let deed = Deed::done(by, "create_project", project);
        db::audit::insert(&mut tx, project, &deed, now).await?;
        tx.commit().await
    }

    /// Lets somebody in, who may do nothing yet.
    pub async fn create(
        &self,
        project: &ProjectId,
        name: &PrincipalName,
        kind: PrincipalKind,
        by: &Actor,
    ) -> Result<()> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        if !db::people::insert(&mut tx, project, name, kind, by, now).await? {
            return Err(Error::AlreadyExists(format!("{name} is in the project already")));
        }
        let act = match kind {
            PrincipalKind::User => "create_user",
            PrincipalKind::ServiceAccount => "create_service_account",
        };
        db::audit::insert(&mut tx, project, &Deed::done(by, act, name), now).await?;
        tx.commit().await
    }

    /// Keeps somebody out, with all his keys, or lets him in again.
    pub async fn set_disabled(
        &self,
        project: &ProjectId,
        name: &PrincipalName,
        is_disabled: bool,
        by: &Actor,
    ) -> Result<()> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        if !db::people::set_disabled(&mut tx, project, name, is_disabled.then_some(now)).await? {
            return Err(nobody(name));
        }
        let act = if is_disabled { "disable" } else { "enable" };
        db::audit::insert(&mut tx, project, &Deed::done(by, act, name), now).await?;
        tx.commit().await
    }

    /// What queries may cost from now on if they do not say: those of somebody, or those of the whole project.
    pub async fn set_defaults(
        &self,
        project: &ProjectId,
        name: Option<&PrincipalName>,
        defaults: Defaults,
        by: &Actor,
    ) -> Result<()> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        if !db::people::set_defaults(&mut tx, project, name, defaults).await? {
            return Err(match name {
                Some(name) => nobody(name),
                None => Error::NotFound(format!("no project named {project}")),
            });
        }
        let of = name.map_or(project.as_str(), PrincipalName::as_str);
        let object = format!("{of}: {defaults}");
        db::audit::insert(&mut tx, project, &Deed::done(by, "set_defaults", object), now).await?;
        tx.commit().await
    }

    /// What queries of the whole project may cost if they do not say.
    pub async fn defaults(&self, project: &ProjectId) -> Result<Defaults> {
        let found = db::people::defaults(&mut *self.db.reader().await?, project).await?;
        found.ok_or_else(|| Error::NotFound(format!("no project named {project}")))
    }

    /// Everybody who was ever let in, by name.
    pub async fn list(&self, project: &ProjectId) -> Result<Vec<Principal>> {
        let mut reader = self.db.reader().await?;
        let grants = db::people::grants(&mut reader, project, None).await?;
        let mut all = db::people::all(&mut reader, project, None).await?;
        for principal in &mut all {
            principal.grants = of(&grants, &principal.name);
        }
        Ok(all)
    }

    /// One of them.
    pub async fn get(&self, project: &ProjectId, name: &PrincipalName) -> Result<Principal> {
        let mut reader = self.db.reader().await?;
        let found = db::people::all(&mut reader, project, Some(name)).await?.pop();
        let found = found.ok_or_else(|| nobody(name))?;
        let grants = db::people::grants(&mut reader, project, Some(name)).await?;
        Ok(Principal {
            grants: of(&grants, name),
            ..found
        })
    }

    /// Who may do what.
    pub async fn grants(&self, project: &ProjectId) -> Result<Vec<Granted>> {
        db::people::grants(&mut *self.db.reader().await?, project, None).await
    }

    /// Gives somebody a role. One that he has already stays as it is.
    pub async fn grant(&self, project: &ProjectId, name: &PrincipalName, grant: &Grant, by: &Actor) -> Result<()> {
        let (to, grant, by) = (name.clone(), grant.clone(), by.clone());
        let effect = Effect::Grant {
            grants: vec![(to, grant)],
            by: by.clone(),
        };
        self.catalog.act(project, &effect, &by).await
    }

    /// Takes a role away.
    pub async fn revoke(&self, project: &ProjectId, name: &PrincipalName, grant: &Grant, by: &Actor) -> Result<()> {
        let grants = vec![(name.clone(), grant.clone())];
        self.catalog.act(project, &Effect::Revoke { grants }, by).await
    }

    /// Gives the project, or somebody in it, a key, of which only the hash is kept.
    pub async fn create_key(&self, project: &ProjectId, key: &NewKey, hash: &[u8; 32], by: &Actor) -> Result<KeyId> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        if let Some(name) = &key.principal
            && db::people::all(&mut tx, project, Some(name)).await?.is_empty()
        {
            return Err(nobody(name));
        }
        if !db::people::insert_key(&mut tx, project, key, hash, by, now).await? {
            return Err(Error::AlreadyExists(format!(
                "project {project} already has a key {}; the names of keys are not used twice",
                key.name
            )));
        }
        let id = KeyId::of_hash(hash);
        let deed = Deed::done(by, "create_key", format_args!("{id} {key}"));
        db::audit::insert(&mut tx, project, &deed, now).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Every key that was ever made, the newest first.
    pub async fn keys(&self, project: &ProjectId) -> Result<Vec<Key>> {
        db::people::keys(&mut *self.db.reader().await?, project, None).await
    }

    /// One of them.
    pub async fn key(&self, project: &ProjectId, id: &KeyId) -> Result<Key> {
        let found = db::people::keys(&mut *self.db.reader().await?, project, Some(id)).await?;
        found.into_iter().next().ok_or_else(|| no_key(id))
    }

    /// Takes a key away. It opens nothing any more.
    pub async fn revoke_key(&self, project: &ProjectId, id: &KeyId, by: &Actor) -> Result<()> {
        let now = self.db.now();
        let mut tx = self.db.begin().await?;
        if !db::people::revoke_key(&mut tx, project, id, now).await? {
            return Err(no_key(id));
        }
        db::audit::insert(&mut tx, project, &Deed::done(by, "revoke_key", id), now).await?;
        tx.commit().await
    }

    /// What the key with this hash opens. None if there is none, it was taken away, or its holder is disabled. Whether it has
    /// expired is for whoever asks to see, each time.
    pub async fn open(&self, hash: &[u8; 32]) -> Result<Option<Opened>> {
        let id = KeyId::of_hash(hash);
        // Two keys with one id are not made; the other half is compared all the same.
        self.open_as(&id, Some(hash)).await
    }

    /// The same for what was made of the key with this id.
    pub async fn open_by_id(&self, id: &KeyId) -> Result<Option<Opened>> {
        self.open_as(id, None).await
    }

    async fn open_as(&self, id: &KeyId, hash: Option<&[u8; 32]>) -> Result<Option<Opened>> {
        let mut reader = self.db.reader().await?;
        let Some(opened) = db::people::open(&mut reader, id, hash).await? else {
            return Ok(None);
        };
        let grants = match &opened.principal {
            Some(name) => of(
                &db::people::grants(&mut reader, &opened.project, Some(name)).await?,
                name,
            ),
            None => Vec::new(),
        };
        let budgets = db::budgets::list(&mut reader, &opened.project).await?;
        Ok(Some(Opened {
            grants,
            budgets,
            ..opened
        }))
    }

    /// Gives the operators a key, of which only the hash is kept.
    pub async fn create_operator_key(&self, name: &str, hash: &[u8; 32]) -> Result<()> {
        if !db::people::insert_operator_key(&mut *self.db.writer().await?, name, hash, self.db.now()).await? {
            return Err(Error::AlreadyExists(format!("there is an operator key {name} already")));
        }
        Ok(())
    }

    /// Takes a key away from the operators.
    pub async fn revoke_operator_key(&self, name: &str) -> Result<()> {
        match db::people::revoke_operator_key(&mut *self.db.writer().await?, name, self.db.now()).await? {
            true => Ok(()),
            false => Err(Error::NotFound(format!("no operator key named {name}"))),
        }
    }

    /// The name of the operator key with this hash, if it is good.
    pub async fn operator(&self, hash: &[u8; 32]) -> Result<Option<String>> {
        db::people::operator(&mut *self.db.reader().await?, hash).await
    }

    /// Whether there was ever an operator key.
    pub async fn has_operators(&self) -> Result<bool> {
        db::people::has_operators(&mut *self.db.reader().await?).await
    }
}

/// Gives a role, in a transaction.
pub(crate) async fn give(
    tx: &mut db::Transaction,
    project: &ProjectId,
    name: &PrincipalName,
    grant: &Grant,
    by: &Actor,
    now: Timestamp,
) -> Result<()> {
    if db::people::all(tx, project, Some(name)).await?.is_empty() {
        return Err(nobody(name));
    }
    db::people::insert_grant(tx, project, name, grant, by, now).await
}

/// Takes a role away, in a transaction.
pub(crate) async fn take(
    tx: &mut db::Transaction,
    project: &ProjectId,
    name: &PrincipalName,
    grant: &Grant,
) -> Result<()> {
    if !db::people::delete_grant(tx, project, name, grant).await? {
        return Err(Error::NotFound(format!("{name} does not have the role {grant}")));
    }
    Ok(())
}

fn of(grants: &[Granted], name: &PrincipalName) -> Vec<Grant> {
    let own = grants.iter().filter(|granted| granted.principal == *name);
    own.map(|granted| granted.grant.clone()).collect()
}

fn nobody(name: &PrincipalName) -> Error {
    Error::NotFound(format!("nobody named {name} is in the project"))
}

fn no_key(id: &KeyId) -> Error {
    Error::NotFound(format!("no key {id}"))
}

#[cfg(test)]
mod tests;
