//! The people of a project: who is in it, what each may do, which keys he holds, and what was done.

use wasmhouse_storage::audit::{Actor, Audit, AuditLine, Deed};
use wasmhouse_storage::catalog::Catalog;
use wasmhouse_storage::clock::Timestamp;
use wasmhouse_storage::ids::{AuditId, KeyId, PrincipalName, ProjectId};
use wasmhouse_storage::people::{Defaults, Grant, Granted, Key, NewKey, People as Records, Principal, PrincipalKind};

use crate::access::{Act, Caller};
use crate::callers::Callers;
use crate::error::{Error, Result};
use crate::projects::Projects;
use crate::sight::Sight;

/// The people of all projects. Cheap to clone.
#[derive(Clone)]
pub(crate) struct People {
    catalog: Catalog,
    records: Records,
    audit: Audit,
    projects: Projects,
    callers: Callers,
}

impl People {
    pub(crate) fn new(catalog: Catalog, projects: Projects, callers: Callers) -> Self {
        Self {
            records: Records::new(&catalog),
            audit: Audit::new(&catalog),
            catalog,
            projects,
            callers,
        }
    }

    /// Everybody in the project, by name.
    pub(crate) async fn list(&self, caller: &Caller) -> Result<Vec<Principal>> {
        caller.may(Act::ManagePeople)?;
        Ok(self.records.list(&caller.project).await?)
    }

    /// Somebody in the project.
    pub(crate) async fn get(&self, caller: &Caller, name: &PrincipalName) -> Result<Principal> {
        if !caller.is_called(name) {
            caller.may(Act::ManagePeople)?;
        }
        let mut found = self.records.get(&caller.project, name).await?;
        found.grants.retain(|grant| is_there(caller, grant));
        Ok(found)
    }

    /// Lets somebody in.
    pub(crate) async fn create(&self, caller: &Caller, name: &PrincipalName, kind: PrincipalKind) -> Result<()> {
        caller.may(Act::ManagePeople)?;
        Ok(self.records.create(&caller.project, name, kind, &caller.actor).await?)
    }

    /// Keeps somebody out, or lets him in again.
    pub(crate) async fn set_disabled(&self, caller: &Caller, name: &PrincipalName, is_disabled: bool) -> Result<()> {
        caller.may(Act::ManagePeople)?;
        let set = self
            .records
            .set_disabled(&caller.project, name, is_disabled, &caller.actor)
            .await;
        self.callers.forget();
        Ok(set?)
    }

    /// What queries of the project may cost if neither they nor their askers say.
    pub(crate) async fn defaults(&self, caller: &Caller) -> Result<Defaults> {
        Ok(self.records.defaults(&caller.project).await?)
    }

    /// Says it, for somebody or for the project.
    pub(crate) async fn set_defaults(
        &self,
        caller: &Caller,
        name: Option<&PrincipalName>,
        defaults: Defaults,
    ) -> Result<()> {
        caller.may(Act::ManagePeople)?;
        let set = self
            .records
            .set_defaults(&caller.project, name, defaults, &caller.actor)
            .await;
        self.callers.forget();
        Ok(set?)
    }

    /// Who may do what, as far as the caller may know: he himself, and others where he says who may.
    pub(crate) async fn grants(&self, caller: &Caller) -> Result<Vec<Granted>> {
        grants(&self.records, caller).await
    }

    /// Gives somebody a role.
    pub(crate) async fn grant(&self, caller: &Caller, name: &PrincipalName, grant: &Grant) -> Result<()> {
        if let Some(dataset) = &grant.dataset
            && !Sight::new(&self.catalog, caller).has_dataset(dataset).await?
        {
            return Err(Error::NotFound(format!("no dataset named {dataset}")));
        }
        caller.may(Act::Grant(grant.dataset.as_ref()))?;
        let given = self.records.grant(&caller.project, name, grant, &caller.actor).await;
        self.callers.forget();
        Ok(given?)
    }

    /// Takes a role away.
    pub(crate) async fn revoke(&self, caller: &Caller, name: &PrincipalName, grant: &Grant) -> Result<()> {
        caller.may(Act::Grant(grant.dataset.as_ref()))?;
        let taken = self.records.revoke(&caller.project, name, grant, &caller.actor).await;
        self.callers.forget();
        Ok(taken?)
    }

    /// The keys of the project, or those of the caller.
    pub(crate) async fn keys(&self, caller: &Caller) -> Result<Vec<Key>> {
        let mut keys = self.records.keys(&caller.project).await?;
        keys.retain(|key| is_seen(caller, key));
        Ok(keys)
    }

    /// Makes a key. It is shown this once.
    pub(crate) async fn create_key(&self, caller: &Caller, new: &NewKey) -> Result<String> {
        let is_own = new.principal.as_ref().is_some_and(|name| caller.is_called(name));
        if caller.is_by_token() {
            return Err(Error::Denied("make a key with a token: that takes a key".to_owned()));
        }
        if !is_own {
            caller.may(Act::ManagePeople)?;
        }
        // A key that may do less, or for a while, must not make one that may do more, or for longer.
        let lasts = |end: Timestamp| new.expires_at.is_none_or(|other| other > end);
        let does_more = caller.is_scoped() && !caller.can(Act::ManagePeople);
        if does_more || caller.expires_at.is_some_and(lasts) {
            return Err(Error::Denied(
                "make a key that may do more, or for longer, than the one that you use".to_owned(),
            ));
        }
        self.projects.create_key(&caller.project, new, &caller.actor).await
    }

    /// A key of the project itself, made by the operators for who has none any more.
    pub(crate) async fn create_project_key(&self, project: &ProjectId, name: &str, by: &Actor) -> Result<String> {
        let new = NewKey {
            name: name.to_owned(),
            principal: None,
            scope: None,
            expires_at: None,
        };
        self.projects.create_key(project, &new, by).await
    }

    /// Takes a key away.
    pub(crate) async fn revoke_key(&self, caller: &Caller, id: &KeyId) -> Result<()> {
        let key = self.records.key(&caller.project, id).await?;
        if !is_seen(caller, &key) {
            return Err(Error::NotFound(format!("no key {id}")));
        }
        let revoked = self.records.revoke_key(&caller.project, id, &caller.actor).await;
        self.callers.forget();
        Ok(revoked?)
    }

    /// What was done in the project, the newest first.
    pub(crate) async fn audit(&self, caller: &Caller, before: Option<&AuditId>, limit: u32) -> Result<Vec<AuditLine>> {
        caller.may(Act::ReadAudit)?;
        Ok(self.audit.lines(&caller.project, before, limit).await?)
    }

    /// Writes down that somebody was not let.
    pub(crate) async fn record_denial(&self, caller: &Caller, request: &str) -> Result<()> {
        let deed = Deed::denied(&caller.actor, "request", request);
        Ok(self.audit.record(&caller.project, &deed).await?)
    }
}

/// Who may do what, as far as the caller may know.
pub(crate) async fn grants(records: &Records, caller: &Caller) -> Result<Vec<Granted>> {
    let mut grants = records.grants(&caller.project).await?;
    grants.retain(|granted| {
        let may_know = caller.is_called(&granted.principal) || caller.can(Act::Grant(granted.grant.dataset.as_ref()));
        may_know && is_there(caller, &granted.grant)
    });
    Ok(grants)
}

/// Whether the place of a grant is there for the caller.
fn is_there(caller: &Caller, grant: &Grant) -> bool {
    let dataset = grant.dataset.as_ref();
    // Who publishes functions in a dataset knows that it is there, and reads nothing in it.
    dataset.is_none_or(|dataset| caller.can(Act::Read(dataset)) || !caller.is_scoped())
}

/// Whether a key is there for the caller: his own, or any if he manages them. With a key that may be used for less than he may
/// do, or a token, it is that key alone.
fn is_seen(caller: &Caller, key: &Key) -> bool {
    let is_his = key.principal.as_ref().is_some_and(|name| caller.is_called(name));
    let is_this = caller.actor.key.as_ref() == Some(&key.id);
    let is_own = is_this || (is_his && !caller.is_scoped() && !caller.is_by_token());
    is_own || caller.can(Act::ManagePeople)
}
