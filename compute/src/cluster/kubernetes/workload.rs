//! A workload of Kubernetes, as far as one wants to know how many pods it has.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, Config};
use serde_json::json;
use wasmhouse_storage::BoxError;

use super::KubernetesConfig;

/// How long the API may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A Deployment or StatefulSet.
pub(super) struct Workload {
    api: Api<DynamicObject>,
    name: String,
}

impl Workload {
    pub(super) async fn find(config: &KubernetesConfig) -> Result<Self, BoxError> {
        let (kind, name) = parsed(&config.workload)?;
        let mut access = match &config.kubeconfig {
            Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &Default::default()).await?,
            None => Config::infer().await?,
        };
        access.read_timeout = Some(ANSWER_TIMEOUT);
        access.reset_reader_on_write = true;
        let namespace = config
            .namespace
            .clone()
            .unwrap_or_else(|| access.default_namespace.clone());
        let client = Client::try_from(access)?;
        Ok(Self {
            api: Api::namespaced_with(client, &namespace, &kind),
            name: name.to_owned(),
        })
    }

    pub(super) async fn replicas(&self) -> Result<u32, BoxError> {
        let scale = self.api.get_scale(&self.name).await?;
        let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
        Ok(u32::try_from(replicas).unwrap_or(0))
    }

    pub(super) async fn scale_to(&self, replicas: u32) -> Result<(), BoxError> {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        self.api
            .patch_scale(&self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }
}

/// The kind of a workload and its name.
fn parsed(workload: &str) -> Result<(ApiResource, &str), BoxError> {
    let kind = match workload.split_once('/') {
        Some(("deployment", name)) if !name.is_empty() => Some((ApiResource::erase::<Deployment>(&()), name)),
        Some(("statefulset", name)) if !name.is_empty() => Some((ApiResource::erase::<StatefulSet>(&()), name)),
        _ => None,
    };
    kind.ok_or_else(|| {
        format!("'{workload}' is no workload of Kubernetes; write deployment/NAME or statefulset/NAME").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_a_kind_and_a_name() {
        let (kind, name) = parsed("deployment/worker").expect("a deployment");
        assert_eq!((kind.plural.as_str(), name), ("deployments", "worker"));
        let (kind, name) = parsed("statefulset/worker").expect("a stateful set");
        assert_eq!((kind.plural.as_str(), name), ("statefulsets", "worker"));
        for wrong in ["", "worker", "pod/worker", "deployment/"] {
            let error = parsed(wrong).expect_err("no workload").to_string();
            assert!(error.contains("deployment/NAME"), "{error}");
        }
    }
}
