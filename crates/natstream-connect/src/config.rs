//! How to connect: the settings of one connection.

mod prepare;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Event, ServerAddr};

pub(crate) use self::prepare::Prepared;
use crate::credentials::Credentials;
use crate::error::ConnectError;
use crate::observe::UserCallback;
use crate::servers::{IntoServers, ServerList};
use crate::tls::Tls;

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
/// | `discover` (feature `consul`) | off: the servers given here | |
/// | [`ignore_discovered_servers`](Self::ignore_discovered_servers) | off: reconnects know the whole cluster | |
/// | [`inbox_prefix`](Self::inbox_prefix) | `_INBOX` | |
/// | [`jetstream_domain`](Self::jetstream_domain) | none | for whoever uses JetStream here |
/// | [`max_reconnects`](Self::max_reconnects) | `None`: for ever | attempts in a row |
/// | [`max_refusals`](Self::max_refusals) | 5 | of the credentials, in a row |
/// | [`name`](Self::name) | none | shown by the server's monitoring |
/// | [`on_event`](Self::on_event) | none | |
/// | [`ping_interval`](Self::ping_interval) | 10 s | a dead server is noticed after three |
/// | [`reconnect_wait`](Self::reconnect_wait) | growing, see below | between attempts |
/// | [`request_timeout`](Self::request_timeout) | 10 s | of the plain async-nats client only |
/// | [`retain_servers_order`](Self::retain_servers_order) | off: random order | |
/// | [`subscription_capacity`](Self::subscription_capacity) | 65,536 messages | memory: for each subscription |
/// | [`tls`](Self::tls) | if the server asks for it | |
///
/// Reconnects wait for a random time of up to 20 ms, 40 ms, 80 ms …, at most 1 s, between attempts;
/// after the server has refused the credentials, between 0.5 s and 1 s.
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
    pub(crate) servers: Result<ServerList, String>,
    client_capacity: usize,
    connect_timeout: Duration,
    /// Where the servers come from, if not from here.
    #[cfg(feature = "consul")]
    pub(crate) consul: Option<crate::consul::Source>,
    credentials: Credentials,
    /// The server of the list that is connected to first, and no other then.
    home: Option<ServerAddr>,
    ignore_discovered_servers: bool,
    inbox_prefix: String,
    jetstream_domain: Option<String>,
    max_reconnects: Option<usize>,
    max_refusals: Option<usize>,
    name: Option<String>,
    on_event: Option<UserCallback>,
    ping_interval: Duration,
    reconnect_wait: Option<Duration>,
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
        Self::with_list(ServerList::parse(&servers.into_servers()))
    }

    pub(crate) fn with_list(servers: Result<ServerList, String>) -> Self {
        Self {
            servers,
            client_capacity: 2048,
            connect_timeout: Duration::from_secs(5),
            #[cfg(feature = "consul")]
            consul: None,
            credentials: Credentials::None,
            home: None,
            ignore_discovered_servers: false,
            inbox_prefix: "_INBOX".to_owned(),
            jetstream_domain: None,
            max_reconnects: None,
            max_refusals: Some(5),
            name: None,
            on_event: None,
            ping_interval: Duration::from_secs(10),
            reconnect_wait: None,
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

    /// The JetStream domain that whoever uses JetStream over this connection shall take, unless told
    /// otherwise; [`Connection::jetstream_domain`](crate::Connection::jetstream_domain) says it.
    ///
    /// Default: none. The connection itself does nothing with it.
    pub fn jetstream_domain(mut self, domain: impl Into<String>) -> Self {
        self.jetstream_domain = Some(domain.into());
        self
    }

    /// After how many attempts in a row a lost connection is given up; it is then closed for good.
    ///
    /// Default `None`: never. Attempts are counted over all servers. With `Some(0)` there is none:
    /// the connection ends when it is lost, also when it leaves a server in lame duck mode.
    pub fn max_reconnects(mut self, attempts: Option<usize>) -> Self {
        self.max_reconnects = attempts;
        self
    }

    /// How often in a row the credentials may be refused before a lost connection is given up; it is
    /// then closed for good, with [`EndReason::CredentialsRefused`](crate::EndReason::CredentialsRefused).
    ///
    /// Default 5, which takes some 3 s; `None`: for ever. Credentials in files are read again each
    /// time; files that cannot be read count as refused, errors of a [callback](Credentials::callback)
    /// do not. Where servers learn of new credentials before their clients do, give them the time
    /// that takes. (The first connect ends at the first refusal.)
    pub fn max_refusals(mut self, attempts: Option<usize>) -> Self {
        self.max_refusals = attempts;
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

    /// How long to wait between two attempts to connect again, in place of a time that grows.
    ///
    /// The first attempt waits up to 20 ms, all others this time and up to a quarter more, so that
    /// clients do not come back in step.
    pub fn reconnect_wait(mut self, wait: Duration) -> Self {
        self.reconnect_wait = Some(wait);
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

    /// Checks what can be checked without a server: every setting, and the files that they name.
    ///
    /// [`Connection::connect`](crate::Connection::connect) does the same first.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ConnectErrorKind::InvalidConfig), with the setting that cannot work.
    pub async fn check(&self) -> Result<(), ConnectError> {
        #[cfg(feature = "consul")]
        if let Some(consul) = &self.consul {
            consul.get()?;
        }
        self.clone().prepare(&Arc::default()).await.map(drop)
    }

    /// Other servers; user info of the old ones stays.
    pub(crate) fn replace_servers(&mut self, addresses: Vec<ServerAddr>) {
        let login = self.servers.as_ref().ok().and_then(|servers| servers.login.clone());
        self.servers = Ok(ServerList { addresses, login });
    }

    /// After how many refusals of the credentials in a row nobody tries again.
    pub(crate) fn most_refusals(&self) -> Option<usize> {
        self.max_refusals
    }

    /// The servers, without user info.
    pub(crate) fn servers(&self) -> Result<&[ServerAddr], ConnectError> {
        let servers = self.servers.as_ref();
        let servers = servers.map_err(|message| ConnectError::config("servers", message.clone()))?;
        Ok(&servers.addresses)
    }

    /// Connects to this server or to none; a connection that is lost may go to the others.
    pub(crate) fn home(mut self, server: ServerAddr) -> Self {
        self.home = Some(server);
        self
    }

    /// Never goes to another server than the one of [`home`](Self::home).
    pub(crate) fn pinned(mut self) -> Self {
        if let (Some(home), Ok(servers)) = (&self.home, &mut self.servers) {
            servers.addresses = vec![home.clone()];
        }
        self.ignore_discovered_servers()
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
        #[cfg(feature = "consul")]
        debug.field("consul", &self.consul);
        debug
            .field("home", &self.home.as_ref().map(ServerAddr::as_url_str))
            .field("client_capacity", &self.client_capacity)
            .field("connect_timeout", &self.connect_timeout)
            .field("credentials", &self.credentials)
            .field("ignore_discovered_servers", &self.ignore_discovered_servers)
            .field("inbox_prefix", &self.inbox_prefix)
            .field("jetstream_domain", &self.jetstream_domain)
            .field("max_reconnects", &self.max_reconnects)
            .field("max_refusals", &self.max_refusals)
            .field("name", &self.name)
            .field("on_event", &self.on_event.as_ref().map(|_| "callback"))
            .field("ping_interval", &self.ping_interval)
            .field("reconnect_wait", &self.reconnect_wait)
            .field("request_timeout", &self.request_timeout)
            .field("retain_servers_order", &self.retain_servers_order)
            .field("subscription_capacity", &self.subscription_capacity)
            .field("tls", &self.tls)
            .finish()
    }
}
