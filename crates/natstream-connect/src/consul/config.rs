//! Which Consul to ask, for what.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::error::ConsulError;
use crate::secret::Secret;

/// Which Consul to ask, and for what.
///
/// | setting | default | |
/// |---|---|---|
/// | [`address`](Self::address) | `http://127.0.0.1:8500` | the agent of this machine |
/// | [`ca_file`](Self::ca_file) | the platform's root certificates | |
/// | [`client_certificate`](Self::client_certificate) | none | |
/// | [`datacenter`](Self::datacenter) | the agent's own | |
/// | [`stale`](Self::stale) | off | |
/// | [`tag`](Self::tag) | none: every healthy instance | |
/// | [`timeout`](Self::timeout) | 3 s | at least 1 ms |
/// | [`token`](Self::token) | none | |
/// | [`wait`](Self::wait) | 60 s | 1 s to 10 min |
///
/// Nothing is read from the environment but by [`with_env`](Self::with_env), which takes it as an argument. Nothing is
/// checked before [`Consul::new`](super::Consul::new).
///
/// # Examples
///
/// ```
/// use natstream_connect::consul::{Consul, ConsulConfig};
///
/// # fn main() -> Result<(), natstream_connect::consul::ConsulError> {
/// let config = ConsulConfig::new("nats").tag("jetstream").datacenter("dc1").token("b1gs33cr3t");
/// let consul = Consul::new(config)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a configuration does nothing by itself"]
pub struct ConsulConfig {
    pub(super) address: String,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(super) datacenter: Option<String>,
    pub(super) service: String,
    pub(super) stale: bool,
    pub(super) tags: Vec<String>,
    pub(super) timeout: Duration,
    pub(super) token: Option<Secret>,
    pub(super) wait: Duration,
}

/// More tags than anybody registers; they are all in the URL of a query.
const MOST_TAGS: usize = 100;

impl ConsulConfig {
    /// The defaults, for the instances of this service.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            address: "http://127.0.0.1:8500".to_owned(),
            ca_file: None,
            client_certificate: None,
            datacenter: None,
            service: service.into(),
            stale: false,
            tags: Vec::new(),
            timeout: Duration::from_secs(3),
            token: None,
            wait: Duration::from_secs(60),
        }
    }

    /// Where Consul's HTTP API is: `127.0.0.1:8500`, `http://…` or `https://…`, also with a path before `/v1`.
    ///
    /// Without a scheme it is `http`. User info is refused: Consul has [tokens](Self::token).
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Trusts the certificate authorities of a PEM file, in place of the platform's.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// Shows Consul a client certificate (mutual TLS); both files are PEM.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Asks for the instances in another datacentre than the agent's.
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.datacenter = Some(name.into());
        self
    }

    /// Takes the answer of any Consul server, in place of the leader's: it may be old by some 50 ms, and there is one also
    /// while there is no leader.
    pub fn stale(mut self) -> Self {
        self.stale = true;
        self
    }

    /// Only instances with this tag; may be called several times, and they have all of them.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// How long to wait for the first list, and for any answer that Consul does not [hold back](Self::wait).
    ///
    /// Default 3 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The ACL token; it needs `service:read` for the service and `node:read` for its nodes. One in a [file](Secret::file) is
    /// read again for every question: a renewed one is taken up.
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// How long Consul may hold an answer back until there is something new.
    ///
    /// Default 60 s. A Consul that has gone silent is noticed after this, a 16th more, and [`timeout`](Self::timeout).
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// The address of the question, without an index.
    pub(super) fn check(&self) -> Result<Url, ConsulError> {
        let mut url = self.url()?;
        for (name, text) in [
            ("service", Some(&self.service)),
            ("datacenter", self.datacenter.as_ref()),
        ] {
            // `.` and `..` would be taken for directories.
            if text.is_some_and(|text| text.is_empty() || text == "." || text == "..") {
                return Err(ConsulError::config(format!("the {name} of Consul has no name")));
            }
        }
        if self.tags.len() > MOST_TAGS {
            return Err(ConsulError::config(format!("more than {MOST_TAGS} tags for Consul")));
        }
        if self.timeout < Duration::from_millis(1) {
            return Err(ConsulError::config("the timeout of Consul is below 1 ms"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.wait) {
            return Err(ConsulError::config("the wait of Consul is not between 1 s and 10 min"));
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v1", "health", "service", &self.service]);
        }
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("passing", "true");
            if self.stale {
                query.append_key_only("stale");
            }
            if let Some(datacenter) = &self.datacenter {
                query.append_pair("dc", datacenter);
            }
            for tag in &self.tags {
                query.append_pair("tag", tag);
            }
        }
        Ok(url)
    }

    fn url(&self) -> Result<Url, ConsulError> {
        // It may hold a password, so it is not shown.
        let wrong = |reason| Err(ConsulError::config(format!("the address of Consul {reason}")));
        let url = match self.address.contains("://") {
            true => Url::parse(&self.address),
            false => Url::parse(&format!("http://{}", self.address)),
        };
        let Ok(url) = url else {
            return wrong("is not a URL such as http://127.0.0.1:8500");
        };
        match url.scheme() {
            "http" | "https" => {}
            "unix" => return wrong("is a Unix socket, which is not built in; use http:// or https://"),
            _ => return wrong("is neither http:// nor https://"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("has user info; use a token");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return wrong("ends after the path");
        }
        Ok(url)
    }
}

impl fmt::Debug for ConsulConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.url().map(String::from);
        f.debug_struct("ConsulConfig")
            .field("address", &address.as_deref().unwrap_or("not valid"))
            .field("ca_file", &self.ca_file)
            .field("client_certificate", &self.client_certificate)
            .field("datacenter", &self.datacenter)
            .field("service", &self.service)
            .field("stale", &self.stale)
            .field("tags", &self.tags)
            .field("timeout", &self.timeout)
            .field("token", &self.token)
            .field("wait", &self.wait)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::ConsulErrorKind;

    #[test]
    fn the_question_is_written_as_consul_documents_it() {
        for (config, expected) in [
            (
                ConsulConfig::new("nats"),
                "http://127.0.0.1:8500/v1/health/service/nats?passing=true",
            ),
            (
                ConsulConfig::new("a/b c").address("[::1]:85").stale(),
                "http://[::1]:85/v1/health/service/a%2Fb%20c?passing=true&stale",
            ),
            (
                ConsulConfig::new("nats")
                    .address("https://consul.example/api/")
                    .datacenter("dc 2")
                    .tag("a&b")
                    .tag("c"),
                "https://consul.example/api/v1/health/service/nats?passing=true&dc=dc+2&tag=a%26b&tag=c",
            ),
        ] {
            assert_eq!(config.check().unwrap().as_str(), expected);
        }
    }

    #[test]
    fn what_cannot_work_is_refused_without_secrets() {
        let nats = || ConsulConfig::new("nats").token("s3cr3t");
        for (config, reason) in [
            (nats().address(""), "URL"),
            (nats().address("unix:///run/consul.sock"), "Unix"),
            (nats().address("ftp://a"), "neither"),
            (nats().address("http://user:s3cr3t@a"), "user info"),
            (nats().address("s3cr3t@a"), "user info"),
            (nats().address("a:99999"), "URL"),
            (nats().address("http://a?token=s3cr3t"), "path"),
            (nats().datacenter(""), "datacenter"),
            (nats().timeout(Duration::ZERO), "timeout"),
            (nats().wait(Duration::ZERO), "wait"),
            (nats().wait(Duration::from_secs(601)), "wait"),
            (ConsulConfig::new(""), "service"),
            (ConsulConfig::new(".."), "service"),
        ] {
            let error = config.check().unwrap_err();
            assert_eq!(error.kind(), ConsulErrorKind::InvalidConfig);
            let text = format!("{error} {error:?} {config:?}");
            assert!(error.to_string().contains(reason), "{text}");
            assert!(!text.contains("s3cr3t"), "{text}");
        }
    }
}
