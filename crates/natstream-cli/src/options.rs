//! How to connect: the options that every command has, and what else is configured.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use natstream::ConnectConfig;
use natstream::connect::consul::ConsulConfig;
use natstream::connect::settings::{Loader, Origin, Settings};

use crate::exit::Failure;

/// Options, and the keys that they set.
pub(crate) const OPTIONS: [(&str, &str); 11] = [
    ("--server", "urls"),
    ("--user", "username"),
    ("--password", "password"),
    ("--token", "token"),
    ("--creds", "creds"),
    ("--nkey", "nkey"),
    ("--tls-ca", "tls_ca"),
    ("--tls-cert", "tls_cert"),
    ("--tls-key", "tls_key"),
    ("--inbox-prefix", "inbox_prefix"),
    ("--timeout", "timeout"),
];

/// Keys that say who we are.
const IDENTITY: [&str; 7] = ["username", "password", "token", "creds", "nkey", "jwt", "seed"];

/// The connection. Each option stands for a key of the configuration, and is stronger than the environment (NATSTREAM_<KEY>,
/// ISA_CLOUD_NATS_<KEY>, and what is named here), --config and --context.
#[derive(Args, Clone)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionOptions {
    /// Servers: nats://host:port or tls://host:port, several with commas between them [env: NATSTREAM_URLS, NATS_URL]
    /// [default: nats://127.0.0.1:4222].
    #[arg(short, long, value_name = "URL[,URL]", global = true)]
    server: Option<String>,
    /// User name; needs --password [env: NATSTREAM_USERNAME, NATS_USER].
    #[arg(long, value_name = "NAME", global = true)]
    user: Option<String>,
    /// Password of the user. The environment is a better place for it: other users see command lines
    /// [env: NATSTREAM_PASSWORD, NATS_PASSWORD; with _FILE behind it, a file that holds it].
    #[arg(long, value_name = "TEXT", global = true)]
    password: Option<String>,
    /// Token. The environment is a better place for it: other users see command lines
    /// [env: NATSTREAM_TOKEN, NATS_TOKEN; with _FILE behind it, a file that holds it].
    #[arg(long, value_name = "TEXT", global = true)]
    token: Option<String>,
    /// Credentials file, as `nsc generate creds` writes it [env: NATSTREAM_CREDS, NATS_CREDS].
    #[arg(long, value_name = "FILE", global = true)]
    creds: Option<String>,
    /// File with the seed of a user nkey [env: NATSTREAM_NKEY, NATS_NKEY].
    #[arg(long, value_name = "FILE", global = true)]
    nkey: Option<String>,
    /// Certificate authorities to trust in place of the platform's, PEM. Requires TLS [env: NATSTREAM_TLS_CA, NATS_CA].
    #[arg(long, value_name = "FILE", global = true)]
    tls_ca: Option<String>,
    /// Client certificate, PEM; needs --tls-key. Requires TLS [env: NATSTREAM_TLS_CERT, NATS_CERT].
    #[arg(long, value_name = "FILE", global = true)]
    tls_cert: Option<String>,
    /// Private key of the client certificate, PEM; needs --tls-cert [env: NATSTREAM_TLS_KEY, NATS_KEY].
    #[arg(long, value_name = "FILE", global = true)]
    tls_key: Option<String>,
    /// First tokens of the subjects on which answers are received [env: NATSTREAM_INBOX_PREFIX] [default: _INBOX].
    #[arg(long, value_name = "SUBJECT", global = true)]
    inbox_prefix: Option<String>,
    /// Longest wait for a connection [env: NATSTREAM_TIMEOUT, NATS_TIMEOUT] [default: 5s].
    #[arg(long, value_name = "DUR", global = true)]
    timeout: Option<String>,
    /// Configuration file, YAML [env: NATSTREAM_CONFIG].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Context of the `nats` CLI, without --config [env: NATSTREAM_CONTEXT, NATS_CONTEXT].
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
}

impl ConnectionOptions {
    /// The configuration, with these options as its strongest part.
    pub(crate) fn loader(&self) -> Loader {
        let values = [
            &self.server,
            &self.user,
            &self.password,
            &self.token,
            &self.creds,
            &self.nkey,
            &self.tls_ca,
            &self.tls_cert,
            &self.tls_key,
            &self.inbox_prefix,
            &self.timeout,
        ];
        let mut loader = Loader::new().environment(std::env::vars_os());
        for ((option, key), value) in OPTIONS.into_iter().zip(values) {
            if let Some(value) = value {
                loader = loader.flag(option, key, value.as_str());
            }
        }
        if let Some(path) = &self.config {
            loader = loader.config_file(path);
        }
        if let Some(name) = &self.context {
            loader = loader.context(name);
        }
        loader
    }

    /// Reads everything that says how to connect.
    pub(crate) fn load(&self) -> Result<ConnectionSettings, Failure> {
        let settings = self.loader().load()?;
        for warning in settings.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(ConnectionSettings {
            timeout: settings.timeout(),
            settings,
        })
    }
}

impl fmt::Debug for ConnectionOptions {
    // No secret, and no URL, which may hold one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionOptions").finish_non_exhaustive()
    }
}

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSettings {
    settings: Settings,
    /// Longest wait for a connection.
    pub(crate) timeout: Duration,
}

impl ConnectionSettings {
    /// The configuration of a connection with this name, unless it is configured.
    pub(crate) fn config(&self, name: &str) -> ConnectConfig {
        self.settings
            .connect_config()
            .name(self.settings.name().unwrap_or(name))
            .connect_timeout(self.timeout_of_one())
    }

    /// How many connections to each server are configured.
    pub(crate) fn per_server(&self) -> usize {
        self.settings.connections_per_server().get()
    }

    /// The Consul that the servers come from, if they do, and what NATS is called there.
    pub(crate) fn consul(&self) -> Option<(ConsulConfig, &str)> {
        Some((self.settings.consul_config()?, self.settings.service_name()))
    }

    /// Do the settings alone demand TLS?
    pub(crate) fn demands_tls(&self) -> bool {
        self.settings.requires_tls()
    }

    /// What to say when the identity is not right: where it comes from may be unseen.
    pub(crate) fn identity_hint(&self) -> Option<String> {
        let mut variables: Vec<&str> = Vec::new();
        let mut other = None;
        for setting in self.settings.iter().filter(|setting| IDENTITY.contains(&setting.key())) {
            match setting.origin() {
                Origin::Variable(name) if variables.contains(&name.as_str()) => {}
                Origin::Variable(name) => variables.push(name),
                Origin::Flag(_) => {}
                origin => other = Some(format!("`{}` comes from {origin}", setting.key())),
            }
        }
        match variables.is_empty() {
            true => other,
            false => Some(format!("the environment sets {}", variables.join(" and "))),
        }
    }

    /// Servers are tried one after another; all of them have their turn within the timeout.
    fn timeout_of_one(&self) -> Duration {
        let servers = u32::try_from(self.settings.servers()).unwrap_or(u32::MAX).max(1);
        (self.timeout / servers).max(Duration::from_millis(1))
    }
}
