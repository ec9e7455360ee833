//! Names, versions and metadata.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::endpoint::EndpointBuilder;
use crate::server::{Server, ServerBuilder};

/// Longest name, in bytes: names are parts of subjects, and a subject that is too long ends the connection.
const MAX_NAME: usize = 128;

/// Longest version, in bytes.
const MAX_VERSION: usize = 128;

/// Who a server is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) id: String,
    pub(crate) started: SystemTime,
}

/// What an endpoint is called.
#[derive(Clone, Debug)]
pub(crate) struct EndpointIdentity {
    pub(crate) name: String,
    /// Empty when there is none.
    pub(crate) queue_group: String,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Why a service cannot be called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("the name of the endpoint, {0:?}, is not 1 to {MAX_NAME} letters, digits, dashes and underscores of ASCII")]
    EndpointName(String),
    #[error("the name of the service, {0:?}, is not 1 to {MAX_NAME} letters, digits, dashes and underscores of ASCII")]
    Name(String),
    #[error("the version of the service, {0:?}, is not a semantic version such as 1.2.3")]
    Version(String),
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            name: "natstream".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: String::new(),
            metadata: BTreeMap::new(),
            id: natstream_connect::token(),
            started: now(),
        }
    }
}

impl Identity {
    pub(crate) fn check(&self) -> Result<(), IdentityError> {
        if !is_name(&self.name) {
            return Err(IdentityError::Name(self.name.clone()));
        }
        if self.version.len() > MAX_VERSION || semver::Version::parse(&self.version).is_err() {
            return Err(IdentityError::Version(self.version.clone()));
        }
        Ok(())
    }
}

impl EndpointIdentity {
    pub(crate) fn check(&self) -> Result<(), IdentityError> {
        match is_name(&self.name) {
            true => Ok(()),
            false => Err(IdentityError::EndpointName(self.name.clone())),
        }
    }
}

/// A subject as the name of an endpoint: what a name cannot have becomes `-`.
pub(crate) fn default_endpoint_name(subject: &str) -> String {
    let name = |c| if is_name_char(c) { c } else { '-' };
    subject.chars().take(MAX_NAME).map(name).collect()
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

#[expect(clippy::disallowed_methods, reason = "the beginning of a service is a time of day")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// How the service is called in NATS service discovery (`docs/discovery.md`).
impl ServerBuilder {
    /// What kind of service this is; all instances share it. 1 to 128 letters, digits, `-` and `_` of ASCII: the first endpoint
    /// does not start otherwise ([`InvalidConfig`](crate::ServeErrorKind::InvalidConfig)). Default: `natstream`.
    ///
    /// ```no_run
    /// # async fn example(connection: natstream_connect::Connection) -> Result<(), stream_server::ServeError> {
    /// let server = stream_server::Server::builder(connection)
    ///     .name("orders")
    ///     .version("1.4.0")
    ///     .metadata("zone", "eu-1")
    ///     .build();
    /// server.on_items("orders.letters", |_request| async { Ok(["a", "b"]) }).name("letters").await?;
    /// println!("ask $SRV.STATS.orders.{}", server.id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.identity.name = name.into();
        self
    }

    /// The version of the service, a semantic version of at most 128 bytes: the first endpoint does not start otherwise
    /// ([`InvalidConfig`](crate::ServeErrorKind::InvalidConfig)). Default: the version of this crate.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.identity.version = version.into();
        self
    }

    /// What the service is, for people. Default: empty.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.identity.description = text.into();
        self
    }

    /// Adds a pair to the metadata of this instance, which everybody who may ask can see. The same key again takes the
    /// place of the first. Default: none.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.identity.metadata.insert(key.into(), value.into());
        self
    }
}

impl Server {
    /// The name in service discovery; see [`ServerBuilder::name`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.identity.name
    }

    /// The id in service discovery, which no other instance has: `$SRV.STATS.<name>.<id>` asks this one.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.identity.id
    }
}

/// How the endpoint is called in NATS service discovery (`docs/discovery.md`).
impl EndpointBuilder {
    /// A name for people and tools; several endpoints may share one. As [`ServerBuilder::name`], or it does not start.
    /// Default: the subject, with `-` for everything that a name cannot have.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds a pair to the metadata, which everybody who may ask can see. `natstream` is taken: it says the version of the
    /// protocol. Default: nothing else.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_adr_allows() {
        let check = |name: &str| {
            let identity = Identity {
                name: name.to_owned(),
                ..Identity::default()
            };
            identity.check()
        };
        let longest = "a".repeat(MAX_NAME);
        for name in ["natstream", "A-z_09", "-", &longest] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let long = "a".repeat(MAX_NAME + 1);
        for name in ["", "a.b", "a b", "ä", "a*", "a\n", &long] {
            assert_eq!(check(name), Err(IdentityError::Name(name.to_owned())));
        }
    }

    #[test]
    fn versions_are_semantic() {
        let check = |version: &str| {
            let identity = Identity {
                version: version.to_owned(),
                ..Identity::default()
            };
            identity.check()
        };
        for version in ["0.0.0", "1.2.3", "1.0.0-rc.1+build.5"] {
            assert_eq!(check(version), Ok(()), "{version}");
        }
        let long = format!("1.2.3-{}", "a".repeat(MAX_VERSION));
        for version in ["", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3 ", &long] {
            assert_eq!(check(version), Err(IdentityError::Version(version.to_owned())));
        }
    }

    #[test]
    fn every_subject_makes_a_name() {
        for (subject, name) in [
            ("orders", "orders"),
            ("orders.*.é.>", "orders------"),
            ("a_B-1", "a_B-1"),
        ] {
            assert_eq!(default_endpoint_name(subject), name);
        }
        assert!(is_name(&default_endpoint_name(&"é.".repeat(1000))));
    }
}
