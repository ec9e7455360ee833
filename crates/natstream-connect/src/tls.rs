//! TLS: what a user may say about it, and the checks that give a mistake its name.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use async_nats::rustls::ClientConfig;
use async_nats::rustls::crypto::CryptoProvider;
use async_nats::rustls::crypto::ring::default_provider;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How a connection uses TLS.
///
/// | setting | default of [`Tls::new`] |
/// |---|---|
/// | required | yes: a server without TLS is an error ([`Tls::optional`]: only if the server asks for it) |
/// | root certificates | those of the platform |
/// | client certificate | none |
/// | handshake first | no: the server speaks first, then TLS starts |
///
/// A connection without any `Tls` behaves like [`Tls::optional`], and one to a `tls://` URL like
/// [`Tls::new`]. Somebody between client and server can suppress optional TLS: ask for it where it
/// matters.
///
/// The server's certificate must be valid for the host name or address in the URL.
///
/// Certificate files are checked at connect and read again at every reconnect, so that renewed
/// files are taken up.
///
/// If the process has no default rustls provider yet, a connect that requires TLS installs ring's,
/// as rustls itself does where ring is the only one; programs that want another one install it
/// before.
#[derive(Clone)]
pub struct Tls {
    required: bool,
    first: bool,
    roots: Vec<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    client_config: Option<Box<ClientConfig>>,
}

impl Tls {
    /// TLS is required.
    #[must_use]
    pub fn new() -> Self {
        Self {
            required: true,
            ..Self::optional()
        }
    }

    /// TLS is used if the server asks for it.
    #[must_use]
    pub fn optional() -> Self {
        Self {
            required: false,
            first: false,
            roots: Vec::new(),
            identity: None,
            client_config: None,
        }
    }

    /// Trusts the certificate authorities of a PEM file, in place of the platform's.
    ///
    /// May be called several times.
    #[must_use]
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.roots.push(file.into());
        self
    }

    /// Shows the server a client certificate (mutual TLS); both files are PEM.
    #[must_use]
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Starts TLS before the server speaks, for servers with `handshake_first`.
    ///
    /// TLS is then required.
    #[must_use]
    pub fn handshake_first(mut self) -> Self {
        self.first = true;
        self.required = true;
        self
    }

    /// Uses a ready-made rustls configuration in place of files.
    ///
    /// async-nats still loads the platform's root certificates and fails where these cannot be
    /// read.
    #[must_use]
    pub fn client_config(mut self, config: ClientConfig) -> Self {
        self.client_config = Some(Box::new(config));
        self
    }

    /// Is TLS required, whatever the server says?
    pub(crate) fn is_required(&self) -> bool {
        self.required
    }

    /// Reads the files once, so that a mistake has a name before a socket is opened.
    pub(crate) async fn check(&self) -> Result<(), TlsProblem> {
        if self.client_config.is_some() && (!self.roots.is_empty() || self.identity.is_some()) {
            return Err(TlsProblem::new(
                "certificate files and a ready configuration exclude each other",
            ));
        }
        for file in &self.roots {
            certificates(file).await?;
        }
        if let Some((certificate, key)) = &self.identity {
            certificates(certificate).await?;
            // Neither the key nor the parser's words about it go into the error.
            PrivateKeyDer::from_pem_slice(&read(key).await?)
                .map_err(|_| TlsProblem::new(format!("no private key in {}", key.display())))?;
        }
        Ok(())
    }

    pub(crate) fn apply(&self, mut options: ConnectOptions) -> ConnectOptions {
        options = options.require_tls(self.required);
        if self.first {
            options = options.tls_first();
        }
        for file in &self.roots {
            options = options.add_root_certificates(file.clone());
        }
        if let Some((certificate, key)) = &self.identity {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        if let Some(config) = &self.client_config {
            options = options.tls_client_config(config.as_ref().clone());
        }
        options
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // rustls' configuration holds the client's key.
        f.debug_struct("Tls")
            .field("required", &self.required)
            .field("handshake_first", &self.first)
            .field("root_certificates", &self.roots)
            .field("client_certificate", &self.identity)
            .field("client_config", &self.client_config.as_ref().map(|_| "ClientConfig"))
            .finish()
    }
}

/// Makes sure that the process has a default provider.
///
/// async-nats asks rustls for *the* provider, which panics when another crate of the program has
/// turned on a second one.
pub(crate) fn ensure_provider() {
    if CryptoProvider::get_default().is_none() {
        // Losing the race against another thread is fine: then there is one.
        let _ = default_provider().install_default();
    }
}

/// TLS settings that cannot work.
#[derive(Debug)]
pub(crate) struct TlsProblem {
    pub(crate) message: String,
    pub(crate) source: Option<io::Error>,
}

impl TlsProblem {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }
}

async fn certificates(file: &Path) -> Result<(), TlsProblem> {
    let pem = read(file).await?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate.map_err(|_| TlsProblem::new(format!("{} is not a PEM file", file.display())))?;
        count += 1;
    }
    match count {
        // async-nats would trust nobody, and say "unknown issuer" about every server.
        0 => Err(TlsProblem::new(format!("no certificate in {}", file.display()))),
        _ => Ok(()),
    }
}

async fn read(file: &Path) -> Result<Vec<u8>, TlsProblem> {
    tokio::fs::read(file).await.map_err(|error| TlsProblem {
        message: format!("cannot read {}", file.display()),
        source: Some(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_that_cannot_work_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let empty = write("empty.pem", "");
        let broken = write(
            "broken.pem",
            "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
        );
        let key = write("s3cr3t.pem", "not a key: s3cr3t-key");
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = write("certificate.pem", &pair.cert.pem());
        let good_key = write("key.pem", &pair.signing_key.serialize_pem());

        for (tls, expected) in [
            (
                Tls::new().root_certificates("/nowhere/ca.pem"),
                "cannot read /nowhere/ca.pem",
            ),
            (Tls::new().root_certificates(&empty), "no certificate in "),
            (Tls::new().root_certificates(&broken), "is not a PEM file"),
            (Tls::new().client_certificate(&certificate, &key), "no private key in "),
            (Tls::new().client_certificate(&empty, &good_key), "no certificate in "),
        ] {
            let problem = tls.check().await.unwrap_err();
            assert!(problem.message.contains(expected), "{problem:?}");
            assert!(!format!("{problem:?}").contains("s3cr3t-key"));
        }
        Tls::new()
            .root_certificates(&certificate)
            .client_certificate(&certificate, &good_key)
            .check()
            .await
            .unwrap();
    }
}
