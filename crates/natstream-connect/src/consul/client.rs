//! The questions over HTTP.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs, io};

use async_nats::rustls::crypto::ring::default_provider;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::{self, ClientConfig, RootCertStore};
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret;
use url::Url;

use super::answer::{Answer, servers};
use super::config::ConsulConfig;
use super::error::{ConsulError, ConsulErrorKind};
use crate::secret::Secret;

/// The longest body that is read: some 1000 instances, as Consul describes them.
const MOST_BODY: usize = 1024 * 1024;

/// Asks one Consul about one service.
pub(super) struct Questions {
    client: Client,
    url: Url,
    datacenter: Option<String>,
    service: String,
    timeout: Duration,
    token: Option<Secret>,
    wait: Duration,
}

impl Questions {
    /// Checks everything; reads the files of certificates.
    pub(super) fn new(config: &ConsulConfig) -> Result<Self, ConsulError> {
        let url = config.check()?;
        if let Some(token) = config.token.as_ref().and_then(Secret::text) {
            header(token.expose_secret())?;
        }
        // Without a configuration of ours, reqwest asks rustls for the default provider, and panics where there is none.
        let tls = match url.scheme() {
            "https" => tls(config)?,
            _ => builder()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth(),
        };
        let client = Client::builder()
            .connect_timeout(config.timeout)
            .http1_only()
            // The token is for this address, and for no proxy or other server.
            .no_proxy()
            .redirect(Policy::none())
            .tcp_keepalive(Duration::from_secs(15))
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("natstream/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                let message = "the HTTP client for Consul cannot be built";
                ConsulError::caused(ConsulErrorKind::InvalidConfig, message, Some(error))
            })?;
        Ok(Self {
            client,
            url,
            datacenter: config.datacenter.clone(),
            service: config.service.clone(),
            timeout: config.timeout,
            token: config.token.clone(),
            wait: config.wait,
        })
    }

    pub(super) fn service(&self) -> &str {
        &self.service
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks for what there is, or, with an index, for what is newer.
    pub(super) async fn ask(&self, index: u64) -> Result<Answer, ConsulError> {
        let (mut url, mut limit) = (self.url.clone(), self.timeout);
        if index > 0 {
            url.query_pairs_mut()
                .append_pair("index", &index.to_string())
                .append_pair("wait", &format!("{}ms", self.wait.as_millis()));
            // Consul adds up to a 16th by chance.
            limit += self.wait + self.wait / 16;
        }
        let mut request = self.client.get(url).timeout(limit);
        if let Some(token) = self.token().await? {
            request = request.header("X-Consul-Token", token);
        }
        let response = request.send().await.map_err(|error| self.failure(error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(self.refusal(status));
        }
        let number = |name| response.headers().get(name)?.to_str().ok()?.parse().ok();
        let index = number("X-Consul-Index");
        let filtered = response
            .headers()
            .get("X-Consul-Results-Filtered-By-ACLs")
            .is_some_and(|value| value == "true");
        let body = self.body(response).await?;
        Ok(Answer {
            servers: servers(&body)?,
            index,
            filtered,
        })
    }

    async fn token(&self) -> Result<Option<HeaderValue>, ConsulError> {
        let Some(token) = &self.token else { return Ok(None) };
        let token = token
            .read("token of Consul")
            .await
            .map_err(|problem| ConsulError::caused(ConsulErrorKind::InvalidConfig, problem.message, problem.source))?;
        header(token.expose_secret()).map(Some)
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ConsulError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(error))? {
            if body.len() + chunk.len() > MOST_BODY {
                let message = "the answer of Consul is longer than 1 MiB";
                return Err(ConsulError::new(ConsulErrorKind::Garbage, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn refusal(&self, status: StatusCode) -> ConsulError {
        let (service, code) = (&self.service, status.as_u16());
        match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => ConsulError::new(
                ConsulErrorKind::Forbidden,
                format!("Consul does not let this token read the service `{service}` (status {code})"),
            ),
            _ if status.is_redirection() => ConsulError::new(
                ConsulErrorKind::Status,
                format!("Consul's address redirects elsewhere (status {code}), which is not followed"),
            ),
            _ => {
                let hint = match &self.datacenter {
                    Some(datacenter) => format!(", asked for datacentre `{datacenter}`"),
                    None => String::new(),
                };
                let message = format!("Consul answered with status {code}{hint}");
                ConsulError::new(ConsulErrorKind::Status, message)
            }
        }
    }

    fn failure(&self, error: reqwest::Error) -> ConsulError {
        // It would be shown with the question.
        let error = error.without_url();
        let has = |is: fn(&(dyn Error + 'static)) -> bool| causes(&error).any(is);
        let (kind, what) = if error.is_timeout() {
            (ConsulErrorKind::Timeout, "did not answer in time")
        } else if has(|cause| cause.is::<rustls::Error>()) {
            (ConsulErrorKind::Tls, "cannot be trusted")
        } else if error.is_connect() || has(|cause| cause.is::<io::Error>()) {
            (ConsulErrorKind::Io, "cannot be reached")
        } else if error.is_body() || error.is_decode() {
            (ConsulErrorKind::Io, "broke off its answer")
        } else {
            (ConsulErrorKind::Garbage, "does not speak HTTP")
        };
        let place = self.url.origin().ascii_serialization();
        ConsulError::caused(kind, format!("Consul at {place} {what}"), Some(error))
    }
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions")
            .field("url", &self.url.as_str())
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// An error and what is behind it. An I/O error may hold another one, which its `source` jumps over.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        held.map(|held| held as &(dyn Error + 'static))
            .or_else(|| error.source())
    })
}

fn header(token: &str) -> Result<HeaderValue, ConsulError> {
    let mut value = HeaderValue::from_str(token)
        .map_err(|_| ConsulError::config("the token of Consul holds something else than printable ASCII"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, ConsulError> {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            let message = "TLS for Consul cannot be set up";
            ConsulError::caused(ConsulErrorKind::InvalidConfig, message, Some(error))
        })
}

fn tls(config: &ConsulConfig) -> Result<ClientConfig, ConsulError> {
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| {
                    let message = format!("no certificate authority in {}", file.display());
                    ConsulError::caused(ConsulErrorKind::InvalidConfig, message, Some(error))
                })?;
            }
        }
        // What cannot be read of them is missed only where it is needed.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(ConsulError::config(
            "there is no root certificate to trust Consul by; name a file with its authority",
        ));
    }
    let builder = builder()?.with_root_certificates(roots);
    let Some((certificate, key)) = &config.client_certificate else {
        return Ok(builder.with_no_client_auth());
    };
    // Neither the key nor the parser's words about it go into the error.
    let wrong = || ConsulError::config(format!("no private key for Consul in {}", key.display()));
    let text = fs::read(key).map_err(|error| unreadable(key, error))?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|_| wrong())?;
    builder
        .with_client_auth_cert(certificates(certificate)?, private)
        .map_err(|_| wrong())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConsulError> {
    let pem = fs::read(file).map_err(|error| unreadable(file, error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(ConsulError::config(format!("no certificate in {}", file.display()))),
    }
}

fn unreadable(file: &Path, error: io::Error) -> ConsulError {
    let message = format!("cannot read {}", file.display());
    ConsulError::caused(ConsulErrorKind::InvalidConfig, message, Some(error))
}
