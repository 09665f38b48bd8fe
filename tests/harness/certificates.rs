//! Certificates of an authority of our own, as files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority, and a certificate that it signed for gateways and workers alike.
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Files in `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let names = CertificateParams::new(vec!["wasmhouse-worker".to_owned()]).expect("a name");
        let certificate = names.signed_by(&key, &authority).expect("a certificate");

        let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("the folder is ours");
        write("ca.pem", authority.pem());
        write("cert.pem", certificate.pem());
        write("key.pem", key.serialize_pem());
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The settings that name them.
    pub(crate) fn settings(&self) -> String {
        let line = |name: &str| format!("{name} = {:?}\n", self.folder.join(name).with_extension("pem"));
        format!("[workers.tls]\n{}{}{}", line("ca"), line("cert"), line("key"))
    }
}
