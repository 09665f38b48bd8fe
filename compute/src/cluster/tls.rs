//! Certificates: how gateways and workers of several machines know each other, and nobody reads along.
//!
//! Both sides of a connection show a certificate of one authority (mutual TLS, RFC 8446). It says that a process belongs to the
//! house; what it may ask is still said by tokens and tickets.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use wasmhouse_storage::BoxError;

/// What a process shows to others, and whom it believes. The texts are PEM (RFC 7468).
#[derive(Clone, Serialize, Deserialize)]
pub struct Certificates {
    authority: String,
    certificate: String,
    key: String,
    worker_name: String,
}

impl Certificates {
    /// Reads them from files. `worker_name` is the name in the certificate of every worker, whatever its address.
    pub fn read(authority: &Path, certificate: &Path, key: &Path, worker_name: &str) -> Result<Self, BoxError> {
        let read = |path: &Path, label: &str| {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            match text.contains(label) {
                true => Ok(text),
                false => Err(format!("{} is not a file in PEM with a {label}", path.display())),
            }
        };
        Ok(Self {
            authority: read(authority, "BEGIN CERTIFICATE")?,
            certificate: read(certificate, "BEGIN CERTIFICATE")?,
            key: read(key, "PRIVATE KEY")?,
            worker_name: worker_name.to_owned(),
        })
    }

    /// For whoever connects to a worker.
    pub(super) fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority))
            .identity(Identity::from_pem(&self.certificate, &self.key))
            .domain_name(&self.worker_name)
    }

    /// For a worker: whoever connects has to show a certificate, too.
    pub(crate) fn server(&self) -> ServerTlsConfig {
        // There are two libraries in this program that could do it, and TLS wants to be told. If somebody has, that is well.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        ServerTlsConfig::new()
            .client_ca_root(Certificate::from_pem(&self.authority))
            .identity(Identity::from_pem(&self.certificate, &self.key))
    }
}

/// The key is not for logs.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("worker_name", &self.worker_name)
            .finish_non_exhaustive()
    }
}
