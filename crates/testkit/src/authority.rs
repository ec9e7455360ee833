//! Certificates.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::server::NatsServer;

/// A certificate authority, made for a test, and a directory for what it signs.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// The PEM files of a certificate.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Authority {
    /// An authority that nobody trusts yet.
    ///
    /// # Panics
    ///
    /// When its files cannot be written.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "no two of them are alike")]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the authority");
        let key = KeyPair::generate().expect("a key of the authority");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let certificate = params.self_signed(&key).expect("an authority signs itself");
        fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("the directory can be written to");
        Self {
            directory,
            issuer: Issuer::new(params, key),
        }
    }

    /// The file of its own certificate: who has it trusts the authority.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for `name`, which serves servers and clients.
    ///
    /// # Panics
    ///
    /// When its files cannot be written.
    #[must_use]
    pub fn issue(&self, name: &str) -> CertificateFiles {
        self.sign(name, |_| ())
    }

    /// [`issue`](Self::issue), valid from the beginning of one year to that of another.
    ///
    /// # Panics
    ///
    /// When its files cannot be written.
    #[must_use]
    pub fn issue_for_years(&self, name: &str, from: i32, until: i32) -> CertificateFiles {
        self.sign(name, |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        })
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateFiles {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name for a certificate");
        change(&mut params);
        let key = KeyPair::generate().expect("a key of a certificate");
        let certificate = params.signed_by(&key, &self.issuer).expect("an authority can sign");
        let directory = tempfile::tempdir_in(self.directory.path()).expect("a directory for a certificate");
        let directory = directory.keep();
        let files = CertificateFiles {
            certificate: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
        };
        fs::write(&files.certificate, certificate.pem()).expect("the directory can be written to");
        fs::write(&files.key, key.serialize_pem()).expect("the directory can be written to");
        files
    }

    /// A nats-server with a certificate for 127.0.0.1; `more` goes into its `tls` section.
    ///
    /// # Panics
    ///
    /// As [`NatsServerBuilder::start`](crate::NatsServerBuilder::start).
    pub async fn server(&self, more: &str) -> NatsServer {
        self.server_with(&self.issue("127.0.0.1"), more).await
    }

    /// [`server`](Self::server) with another certificate.
    ///
    /// # Panics
    ///
    /// As [`NatsServerBuilder::start`](crate::NatsServerBuilder::start).
    pub async fn server_with(&self, files: &CertificateFiles, more: &str) -> NatsServer {
        let quoted = |path: &Path| format!("\"{}\"", path.display());
        let (certificate, key) = (quoted(&files.certificate), quoted(&files.key));
        let config = format!(
            "tls {{ cert_file: {certificate}, key_file: {key}, ca_file: {}, {more} }}",
            quoted(&self.root())
        );
        NatsServer::builder().config(config).start().await
    }
}
