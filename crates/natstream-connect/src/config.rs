//! How to connect: the settings of one connection, checked as a whole at connect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, Event, ServerAddr};
use tokio::sync::Semaphore;

use crate::credentials::Credentials;
use crate::error::ConnectError;
use crate::observe::{Signals, UserCallback, callback};
use crate::reconnect::{Selector, delay};
use crate::servers::{IntoServers, ServerList};
use crate::tls::{self, Tls};

/// How to connect.
///
/// Nothing is checked until [`Connection::connect`](crate::Connection::connect), whose error names
/// the setting.
///
/// | setting | default | |
/// |---|---|---|
/// | [`client_capacity`](Self::client_capacity) | 2,048 commands | memory: up to that many messages |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s | for each address of a server |
/// | [`credentials`](Self::credentials) | those in the URL, if any | |
/// | [`ignore_discovered_servers`](Self::ignore_discovered_servers) | off: reconnects know the whole cluster | |
/// | [`inbox_prefix`](Self::inbox_prefix) | `_INBOX` | |
/// | [`max_reconnects`](Self::max_reconnects) | `None`: for ever | attempts in a row |
/// | [`name`](Self::name) | none | shown by the server's monitoring |
/// | [`on_event`](Self::on_event) | none | |
/// | [`ping_interval`](Self::ping_interval) | 10 s | a dead server is noticed after three |
/// | [`request_timeout`](Self::request_timeout) | 10 s | of the plain async-nats client only |
/// | [`retain_servers_order`](Self::retain_servers_order) | off: random order | |
/// | [`subscription_capacity`](Self::subscription_capacity) | 65,536 messages | memory: for each subscription |
/// | [`tls`](Self::tls) | if the server asks for it | |
///
/// Reconnects wait for a random time of up to 20 ms, 40 ms, 80 ms …, at most 1 s, between attempts.
///
/// There is no setting to turn echo off: a [fence](crate::Connection::fence) needs it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use natstream_connect::{ConnectConfig, Credentials, Tls};
///
/// let config = ConnectConfig::new("tls://nats-1.example,tls://nats-2.example")
///     .name("orders")
///     .credentials(Credentials::file("/etc/orders/nats.creds"))
///     .tls(Tls::new().root_certificates("/etc/orders/ca.pem"))
///     .inbox_prefix("_INBOX_orders")
///     .connect_timeout(Duration::from_secs(2));
/// ```
#[derive(Clone)]
#[must_use = "a configuration does nothing until it is connected"]
pub struct ConnectConfig {
    /// Parsed at once, so that no text with a password in it stays around; a mistake waits for
    /// `connect`.
    servers: Result<ServerList, String>,
    client_capacity: usize,
    connect_timeout: Duration,
    credentials: Credentials,
    ignore_discovered_servers: bool,
    inbox_prefix: String,
    max_reconnects: Option<usize>,
    name: Option<String>,
    on_event: Option<UserCallback>,
    ping_interval: Duration,
    request_timeout: Option<Duration>,
    retain_servers_order: bool,
    subscription_capacity: usize,
    tls: Option<Tls>,
}

impl ConnectConfig {
    /// The defaults, for these servers.
    ///
    /// A server is `nats://host:port` or `tls://host:port`; `nats://` and `:4222` may be left out,
    /// and an IPv6 address stands in brackets. User info (`user:password@` or `token@`) counts as
    /// [`credentials`](Self::credentials); it is the same for all servers that have one, and `,`,
    /// `/`, `?`, `#`, `@` and `%` in it are percent-encoded. It is never shown.
    pub fn new(servers: impl IntoServers) -> Self {
        Self {
            servers: ServerList::parse(&servers.into_servers()),
            client_capacity: 2048,
            connect_timeout: Duration::from_secs(5),
            credentials: Credentials::None,
            ignore_discovered_servers: false,
            inbox_prefix: "_INBOX".to_owned(),
            max_reconnects: None,
            name: None,
            on_event: None,
            ping_interval: Duration::from_secs(10),
            request_timeout: Some(Duration::from_secs(10)),
            retain_servers_order: false,
            subscription_capacity: 65_536,
            tls: None,
        }
    }

    /// How many commands (a publish, a subscribe …) may wait for async-nats' connection task; the
    /// next one waits.
    ///
    /// Default 2,048, at least 1. They are counted, not weighed: 2,048 messages of 1 MiB are 2 GiB.
    /// They fill up while the connection is down.
    pub fn client_capacity(mut self, commands: usize) -> Self {
        self.client_capacity = commands;
        self
    }

    /// How long one address of a server may take for everything from the TCP connect to the first
    /// PONG.
    ///
    /// Default 5 s. A server whose name has several addresses has this time for each of them, but,
    /// together with the name's resolution, no more than twice this time in all; so a connect with
    /// *n* servers ends after at most 2 × *n* × this time. Reconnects use it for each attempt.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Who the connection says it is.
    ///
    /// Default: the user info of the server URLs, if there is any. Both together are an error.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Reconnects only to the servers given here.
    ///
    /// Without it the servers that the cluster tells about are tried too. They have to be reachable
    /// from here: a cluster behind a NAT tells its inner addresses, and with TLS their certificates
    /// must hold the addresses that the cluster tells.
    pub fn ignore_discovered_servers(mut self) -> Self {
        self.ignore_discovered_servers = true;
        self
    }

    /// The first tokens of every subject that this connection receives answers on.
    ///
    /// Default `_INBOX`. A prefix of one's own (`_INBOX_orders`), together with a permission for it
    /// alone, keeps other users from reading the answers. It is one or more tokens of printable
    /// ASCII without wildcards, up to 128 bytes, and does not begin with `$`, which is the
    /// server's.
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.inbox_prefix = prefix.into();
        self
    }

    /// After how many attempts in a row a lost connection is given up; it is then closed for good.
    ///
    /// Default `None`: never. Attempts are counted over all servers. `Some(0)` is an error
    /// (async-nats takes it for "never").
    pub fn max_reconnects(mut self, attempts: Option<usize>) -> Self {
        self.max_reconnects = attempts;
        self
    }

    /// The name of this client in the server's monitoring and logs.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Calls `callback` with every event of async-nats that is not lost.
    ///
    /// async-nats keeps 128 events and drops the rest; the callback is called for one event after
    /// another and must not block. For the state use
    /// [`Connection::state`](crate::Connection::state), which misses nothing.
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(callback));
        self
    }

    /// How long the connection may be silent before the server is asked whether it is there.
    ///
    /// Default 10 s. With two unanswered questions the connection counts as lost, so a server that
    /// has vanished without a word is noticed after three times this (async-nats' own default of 60
    /// s makes it 180 s).
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval;
        self
    }

    /// The limit of `request` on the plain client that
    /// [`Connection::nats`](crate::Connection::nats) returns.
    ///
    /// Default 10 s; `None` for no limit. Nothing else uses it.
    pub fn request_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Tries the servers in the order in which they are given, in place of a random one.
    ///
    /// After a lost connection the search goes on with the server that was tried longest ago.
    pub fn retain_servers_order(mut self) -> Self {
        self.retain_servers_order = true;
        self
    }

    /// How many messages may wait in one subscription; more are dropped, without a word to the
    /// subscriber.
    ///
    /// Default 65,536, at least 1.
    pub fn subscription_capacity(mut self, messages: usize) -> Self {
        self.subscription_capacity = messages;
        self
    }

    /// How TLS is used.
    ///
    /// Default: for `tls://` servers, and where the server asks for it, with the platform's root
    /// certificates.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Checks everything, and builds what one connect needs.
    pub(crate) async fn prepare(self, signals: &Arc<Signals>) -> Result<Prepared, ConnectError> {
        let ServerList { addresses, login } = self
            .servers
            .clone()
            .map_err(|message| ConnectError::config("servers", message))?;
        let credentials = match (login, &self.credentials) {
            (None, given) => given.clone(),
            (Some(login), Credentials::None) => login,
            (Some(_), _) => {
                return Err(ConnectError::config(
                    "credentials",
                    "there are credentials in a server URL too; remove one of the two",
                ));
            }
        };
        self.check_numbers()?;
        check_inbox_prefix(&self.inbox_prefix).map_err(|message| ConnectError::config("inbox_prefix", message))?;
        credentials.check().await?;
        if let Some(tls) = &self.tls {
            tls.check().await?;
        }
        let selector = Arc::new(Selector::new(self.retain_servers_order));
        Ok(Prepared {
            options: self.options(credentials, &addresses, signals, &selector),
            addresses,
            connect_timeout: self.connect_timeout,
            subscription_capacity: self.subscription_capacity,
            inbox_prefix: self.inbox_prefix,
            selector,
        })
    }

    fn check_numbers(&self) -> Result<(), ConnectError> {
        for (field, duration) in [
            ("connect_timeout", Some(self.connect_timeout)),
            ("ping_interval", Some(self.ping_interval)),
            ("request_timeout", self.request_timeout),
        ] {
            if duration.is_some_and(|duration| duration.is_zero()) {
                return Err(ConnectError::config(field, "it is zero"));
            }
        }
        for (field, capacity) in [
            ("client_capacity", self.client_capacity),
            ("subscription_capacity", self.subscription_capacity),
        ] {
            // async-nats panics outside these limits.
            if !(1..=Semaphore::MAX_PERMITS).contains(&capacity) {
                return Err(ConnectError::config(
                    field,
                    format!("it is not between 1 and {}", Semaphore::MAX_PERMITS),
                ));
            }
        }
        match self.max_reconnects {
            Some(0) => Err(ConnectError::config(
                "max_reconnects",
                "it is 0; `None` reconnects for ever",
            )),
            _ => Ok(()),
        }
    }

    fn options(
        &self,
        credentials: Credentials,
        addresses: &[ServerAddr],
        signals: &Arc<Signals>,
        selector: &Arc<Selector>,
    ) -> ConnectOptions {
        let mut options = match credentials {
            Credentials::None => ConnectOptions::new(),
            // All forms go through the callback, which async-nats calls at every reconnect too:
            // renewed files are taken up.
            credentials => {
                let credentials = Arc::new(credentials);
                ConnectOptions::with_auth_callback(move |nonce| {
                    let credentials = credentials.clone();
                    async move { Ok(credentials.answer(nonce).await?) }
                })
            }
        };
        options = options
            .client_capacity(self.client_capacity)
            .connection_timeout(self.connect_timeout)
            .custom_inbox_prefix(&self.inbox_prefix)
            .event_callback(callback(signals.clone(), self.on_event.clone()))
            .max_reconnects(self.max_reconnects)
            .ping_interval(self.ping_interval)
            .request_timeout(self.request_timeout)
            .subscription_capacity(self.subscription_capacity);
        options = options.reconnect_delay_callback({
            let signals = signals.clone();
            move |attempt| delay(&signals, attempt)
        });
        options = options.reconnect_to_server_callback({
            let selector = selector.clone();
            move |pool, _info| std::future::ready(selector.choose(&pool))
        });
        if self.ignore_discovered_servers {
            options = options.ignore_discovered_servers();
        }
        if let Some(name) = &self.name {
            options = options.name(name);
        }
        if self.tls.is_some() || addresses.iter().any(ServerAddr::tls_required) {
            tls::ensure_provider();
        }
        match &self.tls {
            Some(tls) => tls.apply(options),
            None => options,
        }
    }
}

impl fmt::Debug for ConnectConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ConnectConfig");
        match &self.servers {
            Ok(list) => debug
                .field(
                    "servers",
                    &list.addresses.iter().map(ServerAddr::as_url_str).collect::<Vec<_>>(),
                )
                .field("user_info", &list.login),
            Err(message) => debug.field("servers", message),
        };
        debug
            .field("client_capacity", &self.client_capacity)
            .field("connect_timeout", &self.connect_timeout)
            .field("credentials", &self.credentials)
            .field("ignore_discovered_servers", &self.ignore_discovered_servers)
            .field("inbox_prefix", &self.inbox_prefix)
            .field("max_reconnects", &self.max_reconnects)
            .field("name", &self.name)
            .field("on_event", &self.on_event.as_ref().map(|_| "callback"))
            .field("ping_interval", &self.ping_interval)
            .field("request_timeout", &self.request_timeout)
            .field("retain_servers_order", &self.retain_servers_order)
            .field("subscription_capacity", &self.subscription_capacity)
            .field("tls", &self.tls)
            .finish()
    }
}

/// A checked configuration, ready to connect.
pub(crate) struct Prepared {
    pub(crate) options: ConnectOptions,
    /// At least one.
    pub(crate) addresses: Vec<ServerAddr>,
    pub(crate) connect_timeout: Duration,
    pub(crate) inbox_prefix: String,
    pub(crate) subscription_capacity: usize,
    pub(crate) selector: Arc<Selector>,
}

fn check_inbox_prefix(prefix: &str) -> Result<(), &'static str> {
    if prefix.is_empty() {
        return Err("it is empty");
    }
    if prefix.len() > 128 {
        return Err("it is longer than 128 bytes");
    }
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it holds something else than printable ASCII");
    }
    if prefix.contains(['*', '>']) {
        return Err("it holds a wildcard");
    }
    if prefix.split('.').any(str::is_empty) {
        return Err("it begins or ends with a dot, or has two in a row");
    }
    if prefix.starts_with('$') {
        return Err("it begins with `$`, which is the server's");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ConnectErrorKind;

    async fn rejected(config: ConnectConfig) -> ConnectError {
        let Err(error) = config.prepare(&Arc::new(Signals::default())).await else {
            panic!("the configuration was accepted");
        };
        error
    }

    #[tokio::test]
    async fn a_setting_that_cannot_work_is_named() {
        let config = || ConnectConfig::new("localhost");
        for (config, field) in [
            (ConnectConfig::new(""), "servers"),
            (ConnectConfig::new("ws://a"), "servers"),
            (config().client_capacity(0), "client_capacity"),
            (config().subscription_capacity(usize::MAX), "subscription_capacity"),
            (config().connect_timeout(Duration::ZERO), "connect_timeout"),
            (config().ping_interval(Duration::ZERO), "ping_interval"),
            (config().request_timeout(Some(Duration::ZERO)), "request_timeout"),
            (config().max_reconnects(Some(0)), "max_reconnects"),
            (config().credentials(Credentials::nkey_seed("SU")), "credentials"),
            (
                ConnectConfig::new("token@a").credentials(Credentials::token("token")),
                "credentials",
            ),
            (config().tls(Tls::new().root_certificates("/nowhere/ca.pem")), "tls"),
            (config().inbox_prefix(""), "inbox_prefix"),
            (config().inbox_prefix("a..b"), "inbox_prefix"),
            (config().inbox_prefix(".a"), "inbox_prefix"),
            (config().inbox_prefix("a."), "inbox_prefix"),
            (config().inbox_prefix("a.*"), "inbox_prefix"),
            (config().inbox_prefix("a.>"), "inbox_prefix"),
            (config().inbox_prefix("a b"), "inbox_prefix"),
            (config().inbox_prefix("é"), "inbox_prefix"),
            (config().inbox_prefix("$JS.x"), "inbox_prefix"),
            (config().inbox_prefix("a".repeat(129)), "inbox_prefix"),
        ] {
            let error = rejected(config).await;
            assert_eq!(error.kind(), ConnectErrorKind::InvalidConfig);
            assert_eq!(error.field(), Some(field), "{error}");
            assert!(!error.is_retryable());
        }
    }

    #[tokio::test]
    async fn neither_debug_nor_errors_show_secrets() {
        for config in [
            ConnectConfig::new("nats://user:s3cr3t@localhost"),
            ConnectConfig::new("nats://s3cr3t@localhost").credentials(Credentials::token("s3cr3t")),
            ConnectConfig::new("nats://user:s3cr3t@localhost:port"),
            ConnectConfig::new("localhost").credentials(Credentials::nkey_seed("s3cr3t")),
            ConnectConfig::new("localhost").credentials(Credentials::text("s3cr3t")),
        ] {
            let debug = format!("{config:?} {config:#?}");
            assert!(!debug.contains("s3cr3t"), "{debug}");
            if let Err(error) = config.prepare(&Arc::new(Signals::default())).await {
                let text = format!("{error} {error:?}");
                assert!(!text.contains("s3cr3t"), "{text}");
            }
        }
    }
}
