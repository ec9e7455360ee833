//! How to connect: the options that every command has.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use natstream::{ConnectConfig, Credentials, Tls};

use crate::duration;
use crate::exit::{Exit, Failure};

/// Options that say who we are, and their names in the environment.
const IDENTITY: [(&str, &str); 5] = [
    ("user", "NATS_USER"),
    ("password", "NATS_PASSWORD"),
    ("token", "NATS_TOKEN"),
    ("creds", "NATS_CREDS"),
    ("nkey", "NATS_NKEY"),
];

/// The connection.
#[derive(Args, Clone)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionOptions {
    /// Servers: nats://host:port or tls://host:port, several with commas between them.
    #[arg(
        short,
        long,
        value_name = "URL[,URL]",
        env = "NATS_URL",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222",
        global = true
    )]
    server: String,
    /// User name; needs --password.
    #[arg(long, value_name = "NAME", env = "NATS_USER", hide_env_values = true, global = true)]
    user: Option<String>,
    /// Password of the user. The environment is a better place for it: other users see command lines.
    #[arg(
        long,
        value_name = "TEXT",
        env = "NATS_PASSWORD",
        hide_env_values = true,
        global = true
    )]
    password: Option<String>,
    /// Token. The environment is a better place for it: other users see command lines.
    #[arg(long, value_name = "TEXT", env = "NATS_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// Credentials file, as `nsc generate creds` writes it.
    #[arg(long, value_name = "FILE", env = "NATS_CREDS", hide_env_values = true, global = true)]
    creds: Option<PathBuf>,
    /// File with the seed of a user nkey.
    #[arg(long, value_name = "FILE", env = "NATS_NKEY", hide_env_values = true, global = true)]
    nkey: Option<PathBuf>,
    /// Certificate authorities to trust in place of the platform's, PEM. Requires TLS.
    #[arg(long, value_name = "FILE", env = "NATS_CA", hide_env_values = true, global = true)]
    tls_ca: Option<PathBuf>,
    /// Client certificate, PEM; needs --tls-key. Requires TLS.
    #[arg(long, value_name = "FILE", env = "NATS_CERT", hide_env_values = true, global = true)]
    tls_cert: Option<PathBuf>,
    /// Private key of the client certificate, PEM; needs --tls-cert.
    #[arg(long, value_name = "FILE", env = "NATS_KEY", hide_env_values = true, global = true)]
    tls_key: Option<PathBuf>,
    /// First tokens of the subjects on which answers are received [default: _INBOX].
    #[arg(long, value_name = "SUBJECT", global = true)]
    inbox_prefix: Option<String>,
    /// Longest wait for a connection.
    #[arg(
        long,
        value_name = "DUR",
        env = "NATS_TIMEOUT",
        hide_env_values = true,
        default_value = "5s",
        value_parser = duration::parse_positive,
        global = true
    )]
    pub(crate) timeout: Duration,
    /// Options that say who we are and came from the environment, by the names that they have there.
    #[arg(skip)]
    from_environment: Vec<&'static str>,
}

impl ConnectionOptions {
    /// Decides between command line and environment: an identity on the command line takes the place of the one in the
    /// environment as a whole, but for a password, which belongs to any user.
    pub(crate) fn settle(&mut self, matches: &ArgMatches) {
        let source = |id: &str| matches.value_source(id);
        let is_given = |id: &str| source(id) == Some(ValueSource::CommandLine);
        let in_url = self.server.contains('@');
        let given = IDENTITY.iter().any(|(id, _)| is_given(id)) || (in_url && is_given("server"));
        if in_url && source("server") == Some(ValueSource::EnvVariable) {
            self.from_environment.push("NATS_URL");
        }
        for (id, variable) in IDENTITY {
            if source(id) != Some(ValueSource::EnvVariable) {
                continue;
            }
            let completes = match id {
                "password" => is_given("user"),
                "user" => is_given("password"),
                _ => false,
            };
            if !given || completes {
                self.from_environment.push(variable);
                continue;
            }
            match id {
                "user" => self.user = None,
                "password" => self.password = None,
                "token" => self.token = None,
                "creds" => self.creds = None,
                _ => self.nkey = None,
            }
        }
    }

    /// The configuration of a connection with this name.
    pub(crate) fn config(&self, name: &str) -> Result<ConnectConfig, Failure> {
        let mut config = ConnectConfig::new(&self.server)
            .name(name)
            .credentials(self.credentials()?)
            .connect_timeout(self.timeout_of_one());
        if let Some(tls) = self.tls()? {
            config = config.tls(tls);
        }
        if let Some(prefix) = &self.inbox_prefix {
            config = config.inbox_prefix(prefix);
        }
        Ok(config)
    }

    /// Do these options alone demand TLS?
    pub(crate) fn demands_tls(&self) -> bool {
        self.tls_ca.is_some() || self.tls_cert.is_some()
    }

    /// What to say when the identity is not right: some of it may be unseen.
    pub(crate) fn environment_hint(&self) -> Option<String> {
        let names = &self.from_environment;
        (!names.is_empty()).then(|| format!("the environment sets {}", names.join(" and ")))
    }

    /// Servers are tried one after another; all of them have their turn within the timeout.
    fn timeout_of_one(&self) -> Duration {
        let servers = self
            .server
            .split(',')
            .filter(|server| !server.trim().is_empty())
            .count();
        let servers = u32::try_from(servers).unwrap_or(u32::MAX).max(1);
        (self.timeout / servers).max(Duration::from_millis(1))
    }

    fn credentials(&self) -> Result<Credentials, Failure> {
        let user = self.user.is_some() || self.password.is_some();
        let kinds: Vec<_> = [
            ("--user", user),
            ("--token", self.token.is_some()),
            ("--creds", self.creds.is_some()),
            ("--nkey", self.nkey.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_set)| is_set.then_some(name))
        .collect();
        if kinds.len() > 1 {
            let failure = Failure::usage(format!("{} exclude each other", kinds.join(" and ")));
            return Err(Failure {
                hint: self.environment_hint(),
                ..failure
            });
        }
        Ok(
            match (&self.user, &self.password, &self.token, &self.creds, &self.nkey) {
                (Some(user), Some(password), ..) => Credentials::user_password(user.as_str(), password.as_str()),
                (Some(_), None, ..) => {
                    return Err(Failure::usage("--user needs --password").with_hint("a token is given with --token"));
                }
                (None, Some(_), ..) => return Err(Failure::usage("--password needs --user")),
                (.., Some(token), _, _) => Credentials::token(token.as_str()),
                (.., Some(file), _) => Credentials::file(file),
                (.., Some(file)) => Credentials::nkey_seed(read_seed(file)?),
                _ => Credentials::None,
            },
        )
    }

    fn tls(&self) -> Result<Option<Tls>, Failure> {
        let mut tls = self.tls_ca.as_ref().map(|file| Tls::new().root_certificates(file));
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                tls = Some(tls.unwrap_or_default().client_certificate(certificate, key));
            }
            (None, None) => {}
            (Some(_), None) => return Err(Failure::usage("--tls-cert needs --tls-key")),
            (None, Some(_)) => return Err(Failure::usage("--tls-key needs --tls-cert")),
        }
        Ok(tls)
    }
}

impl fmt::Debug for ConnectionOptions {
    // No secret, and no URL, which may hold one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionOptions")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The seed in a file, alone or among other lines.
fn read_seed(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let error = anyhow::Error::new(error).context(format!("cannot read the nkey file {}", file.display()));
        Failure::new(Exit::Usage, error)
    })?;
    let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
    Ok(seed.unwrap_or_else(|| text.trim()).to_owned())
}
