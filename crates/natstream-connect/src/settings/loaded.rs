//! The settings that were loaded.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{Form, Id, KEYS};
use super::origin::{Origin, Rank};
use super::resolve::Resolved;
use super::value::Value;
use crate::config::ConnectConfig;
use crate::connections::{Connections, ConnectionsBuilder};
#[cfg(feature = "consul")]
use crate::consul::{ConsulConfig, Source};
use crate::credentials::Credentials;
use crate::secret::Secret;
use crate::tls::Tls;

/// Most connections to a server, unless more are configured as the fewest.
const MOST_PER_SERVER: usize = 4;

/// How long Consul may take to name servers, at most: half of the time for a connection may be less.
#[cfg(feature = "consul")]
const CONSUL_TIMEOUT: Duration = Duration::from_secs(3);

/// Everything that a configuration says, each value with the place that it came from.
///
/// [`connect_config`](Self::connect_config) is the part of it that makes connections; the methods named after other keys are
/// for those who use JetStream. What nobody has given is `None`, unless it has a default.
/// `Debug` shows no secret.
#[derive(Clone)]
pub struct Settings {
    entries: BTreeMap<Id, Entry>,
    identity: Option<Identity>,
    warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    pub(crate) rank: Rank,
}

/// The form of what says who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Creds,
    Jwt,
    Nkey,
    Token,
    /// In a server URL; it becomes one of the others.
    Url,
    UserPassword,
}

/// One value, for people: a part of [`Settings`].
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    key: &'static str,
    entry: &'a Entry,
    is_secret: bool,
}

impl<'a> Setting<'a> {
    /// The name that it has in a file.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// The value as a text. A secret is `[redacted]`, with the name of its file if it has one; a server URL has no user info,
    /// which is shown as username, password or token.
    #[must_use]
    pub fn value(&self) -> String {
        self.entry.value.to_string()
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> &'a Origin {
        &self.entry.origin
    }

    /// Whether the value is never shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }
}

impl Settings {
    pub(crate) fn new(Resolved { entries, identity }: Resolved, warnings: Vec<String>) -> Self {
        Self {
            entries,
            identity,
            warnings,
        }
    }

    /// All values, defaults too, in the order of the manual.
    pub fn iter(&self) -> impl Iterator<Item = Setting<'_>> {
        KEYS.iter().filter_map(|key| {
            Some(Setting {
                key: key.name,
                entry: self.entries.get(&key.id)?,
                is_secret: key.form == Form::Secret,
            })
        })
    }

    /// What is not wrong, but probably not meant either, for people; without secrets.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The origin of the value of a key, by the name that the key has in a file.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.iter()
            .find(|setting| setting.key == key)
            .map(|setting| setting.origin())
    }

    /// How to connect. What nobody has given has the defaults of [`ConnectConfig`].
    ///
    /// With `use_consul` the servers come from Consul, and the configured ones are for when it names none. (Feature `consul`;
    /// there is a [warning](Self::warnings) without it.)
    pub fn connect_config(&self) -> ConnectConfig {
        let servers = match self.value(Id::Urls) {
            Some(Value::Servers(list)) => Ok(list.clone()),
            // It has a default.
            _ => Err("no server given".to_owned()),
        };
        let mut config = ConnectConfig::with_list(servers).credentials(self.credentials());
        if let Some(tls) = self.tls() {
            config = config.tls(tls);
        }
        if let Some(prefix) = self.given_text(Id::InboxPrefix) {
            config = config.inbox_prefix(prefix);
        }
        if let Some(name) = self.name() {
            config = config.name(name);
        }
        if let Some(Value::Duration(timeout)) = self.given(Id::Timeout) {
            config = config.connect_timeout(*timeout);
        }
        if let Some(Value::Duration(interval)) = self.given(Id::PingInterval) {
            config = config.ping_interval(*interval);
        }
        if let Some(Value::Duration(wait)) = self.given(Id::ReconnectWait) {
            config = config.reconnect_wait(*wait);
        }
        if let Some(Value::Attempts(attempts)) = self.given(Id::MaxReconnect) {
            config = config.max_reconnects(*attempts);
        }
        if let Some(domain) = self.jetstream_domain() {
            config = config.jetstream_domain(domain);
        }
        #[cfg(feature = "consul")]
        if let Some(consul) = self.consul_config() {
            config.consul = Some(Source::Described(consul));
        }
        config
    }

    /// Several connections, with at least `connections_per_server` to each server.
    pub fn connections(&self) -> ConnectionsBuilder {
        let fewest = self.connections_per_server().get();
        Connections::builder(self.connect_config()).per_server(fewest..=fewest.max(MOST_PER_SERVER))
    }

    /// Who we are.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        let identity = match self.identity {
            Some(Identity::Creds) => self.path(Id::Creds).map(Credentials::file),
            Some(Identity::Nkey) => self
                .path(Id::Nkey)
                .map(|file| Credentials::nkey_seed(Secret::file(file))),
            Some(Identity::Token) => self.secret(Id::Token).map(Credentials::token),
            Some(Identity::Jwt) => self
                .secret(Id::Jwt)
                .zip(self.secret(Id::Seed))
                .map(|(jwt, seed)| Credentials::jwt(jwt, seed)),
            Some(Identity::UserPassword) => self
                .text(Id::Username)
                .zip(self.secret(Id::Password))
                .map(|(user, password)| Credentials::user_password(user, password)),
            Some(Identity::Url) | None => None,
        };
        identity.unwrap_or_default()
    }

    /// Whether a server without TLS is an error, whatever its URL says.
    #[must_use]
    pub fn requires_tls(&self) -> bool {
        self.tls().is_some_and(|tls| tls.is_required())
    }

    /// How TLS is used, if anything is said about it. Files are named to be used, so they require TLS, unless something that
    /// is as strong turns it off.
    fn tls(&self) -> Option<Tls> {
        let ids = [Id::TlsCa, Id::TlsCert, Id::TlsKey, Id::TlsFirst];
        let named = ids
            .iter()
            .filter(|id| !matches!(self.value(**id), Some(Value::Flag(false))))
            .filter_map(|id| self.entries.get(id).map(|entry| entry.rank))
            .min();
        let enabled = self.entries.get(&Id::TlsEnabled);
        let is_off =
            |entry: &Entry| matches!(entry.value, Value::Flag(false)) && named.is_none_or(|named| entry.rank <= named);
        let mut tls = match (enabled, named) {
            (Some(entry), _) if is_off(entry) => named.map(|_| Tls::optional())?,
            (None, None) => return None,
            _ => Tls::new(),
        };
        let is_off = enabled.is_some_and(is_off);
        if let Some(ca) = self.path(Id::TlsCa) {
            tls = tls.root_certificates(ca);
        }
        if let Some((certificate, key)) = self.path(Id::TlsCert).zip(self.path(Id::TlsKey)) {
            tls = tls.client_certificate(certificate, key);
        }
        if !is_off && self.flag(Id::TlsFirst) == Some(true) {
            tls = tls.handshake_first();
        }
        Some(tls)
    }

    /// `timeout`: how long one server may take to answer. Default 5 s.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        match self.value(Id::Timeout) {
            Some(Value::Duration(timeout)) => *timeout,
            _ => Duration::from_secs(5),
        }
    }

    /// How many servers there are to connect to.
    #[must_use]
    pub fn servers(&self) -> usize {
        match self.value(Id::Urls) {
            Some(Value::Servers(list)) => list.addresses.len(),
            _ => 0,
        }
    }

    /// `name`: what the client calls itself.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text(Id::Name)
    }

    /// `connections_per_server`. Default 1.
    #[must_use]
    pub fn connections_per_server(&self) -> NonZeroUsize {
        match self.value(Id::ConnectionsPerServer) {
            Some(Value::Count(count)) => *count,
            _ => NonZeroUsize::MIN,
        }
    }

    /// `jetstream_enabled`.
    #[must_use]
    pub fn jetstream_enabled(&self) -> Option<bool> {
        self.flag(Id::JetstreamEnabled)
    }

    /// `jetstream_domain`. [`Connection::jetstream_domain`](crate::Connection::jetstream_domain) says it too.
    #[must_use]
    pub fn jetstream_domain(&self) -> Option<&str> {
        self.text(Id::JetstreamDomain)
    }

    /// `use_consul`. Default false.
    #[must_use]
    pub fn use_consul(&self) -> bool {
        self.flag(Id::UseConsul).unwrap_or(false)
    }

    /// `service_name`: what NATS is called in Consul. Default `nats-service`.
    #[must_use]
    pub fn service_name(&self) -> &str {
        self.text(Id::ServiceName).unwrap_or("nats-service")
    }

    /// `consul_address`.
    #[must_use]
    pub fn consul_address(&self) -> Option<&str> {
        match self.value(Id::ConsulAddress)? {
            Value::Url(url) => Some(url),
            _ => None,
        }
    }

    /// `consul_token`.
    #[must_use]
    pub fn consul_token(&self) -> Option<Secret> {
        self.secret(Id::ConsulToken)
    }

    /// `consul_datacenter`.
    #[must_use]
    pub fn consul_datacenter(&self) -> Option<&str> {
        self.text(Id::ConsulDatacenter)
    }

    /// `consul_tags`: only services with all of these.
    #[must_use]
    pub fn consul_tags(&self) -> &[String] {
        match self.value(Id::ConsulTags) {
            Some(Value::List(tags)) => tags,
            _ => &[],
        }
    }

    /// Which Consul to ask; `None` without `use_consul`. Which files it may read comes up when it is [made](crate::consul::Consul::new).
    #[cfg(feature = "consul")]
    #[must_use]
    pub fn consul_config(&self) -> Option<ConsulConfig> {
        if !self.use_consul() {
            return None;
        }
        let mut config = ConsulConfig::new(self.service_name());
        let is_tls = self.flag(Id::ConsulSsl) == Some(true);
        match self.consul_address() {
            Some(address) if is_tls && !address.contains("://") => {
                config = config.address(format!("https://{address}"))
            }
            Some(address) => config = config.address(address),
            None if is_tls => config = config.address("https://127.0.0.1:8500"),
            None => {}
        }
        if let Some(token) = self.consul_token() {
            config = config.token(token);
        }
        if let Some(datacenter) = self.consul_datacenter() {
            config = config.datacenter(datacenter);
        }
        for tag in self.consul_tags() {
            config = config.tag(tag);
        }
        if let Some(ca) = self.path(Id::ConsulCa) {
            config = config.ca_file(ca);
        }
        if let Some((certificate, key)) = self.path(Id::ConsulCert).zip(self.path(Id::ConsulKey)) {
            config = config.client_certificate(certificate, key);
        }
        // Whoever waits for a connection waits for Consul too.
        Some(config.timeout(CONSUL_TIMEOUT.min(self.timeout() / 2).max(Duration::from_millis(1))))
    }

    fn value(&self, id: Id) -> Option<&Value> {
        self.entries.get(&id).map(|entry| &entry.value)
    }

    /// A value that is no default.
    fn given(&self, id: Id) -> Option<&Value> {
        let entry = self.entries.get(&id)?;
        (entry.rank != Rank::Default).then_some(&entry.value)
    }

    fn given_text(&self, id: Id) -> Option<&str> {
        self.given(id).and_then(|_| self.text(id))
    }

    fn text(&self, id: Id) -> Option<&str> {
        match self.value(id)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn path(&self, id: Id) -> Option<&PathBuf> {
        match self.value(id)? {
            Value::Path(path) => Some(path),
            _ => None,
        }
    }

    fn flag(&self, id: Id) -> Option<bool> {
        match self.value(id)? {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    fn secret(&self, id: Id) -> Option<Secret> {
        match self.value(id)? {
            Value::Secret(secret) => Some(secret.clone()),
            _ => None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.iter().map(|setting| (setting.key, setting.value()));
        f.debug_map().entries(values).finish()
    }
}
