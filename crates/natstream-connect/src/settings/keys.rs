//! The table of keys. Everything that has to know the keys reads it here: the file, the environment, contexts, redaction,
//! suggestions, `natstream config show` and the test of the manual.

/// A key, for code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Id {
    Urls,
    Username,
    Password,
    Token,
    Creds,
    Nkey,
    Jwt,
    Seed,
    TlsEnabled,
    TlsCa,
    TlsCert,
    TlsKey,
    TlsFirst,
    InboxPrefix,
    Name,
    Timeout,
    PingInterval,
    MaxReconnect,
    ReconnectWait,
    ConnectionsPerServer,
    JetstreamEnabled,
    JetstreamDomain,
    UseConsul,
    ServiceName,
    ConsulAddress,
    ConsulToken,
    ConsulDatacenter,
    ConsulTags,
    ConsulSsl,
    ConsulCa,
    ConsulCert,
    ConsulKey,
    ClusterName,
    GrpcPort,
    MaxPingsOut,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A number of attempts, -1 for no limit.
    Attempts,
    /// A number from 1.
    Count,
    Duration,
    Flag,
    /// Taken, and of no meaning here.
    Ignored,
    List,
    Path,
    /// Never shown. `<key>_file` names a file that holds it.
    Secret,
    /// Server URLs, which may hold secrets.
    Servers,
    Text,
    /// Another URL; its user info is never shown.
    Url,
}

/// A key, and what it is called in each place.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: Id,
    /// In a file; upper case behind a prefix it is a variable.
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    /// The variable of other programs: the `nats` CLI's, or Consul's.
    pub(crate) variable: Option<&'static str>,
    /// The field in a context of the `nats` CLI.
    pub(crate) context: Option<&'static str>,
    pub(crate) form: Form,
    pub(crate) default: Option<&'static str>,
}

impl Key {
    /// All names that a file may give it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.form, Form::List | Form::Servers)
    }

    /// May its value be in an error text?
    pub(crate) fn is_shown(&self) -> bool {
        !matches!(self.form, Form::Secret | Form::Servers | Form::Url)
    }
}

/// What ends the name of a key or variable that names a file with the secret.
pub(crate) const FILE_SUFFIX: &str = "_file";

const fn key(id: Id, name: &'static str, form: Form) -> Key {
    Key {
        id,
        name,
        aliases: &[],
        variable: None,
        context: None,
        form,
        default: None,
    }
}

impl Key {
    const fn alias(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn variable(self, variable: &'static str) -> Self {
        Self {
            variable: Some(variable),
            ..self
        }
    }

    const fn context(self, field: &'static str) -> Self {
        Self {
            context: Some(field),
            ..self
        }
    }

    const fn default(self, text: &'static str) -> Self {
        Self {
            default: Some(text),
            ..self
        }
    }
}

pub(crate) const KEYS: &[Key] = &[
    key(Id::Urls, "urls", Form::Servers)
        .alias(&["url", "servers", "server"])
        .variable("NATS_URL")
        .context("url")
        .default("nats://127.0.0.1:4222"),
    key(Id::Username, "username", Form::Text)
        .alias(&["user"])
        .variable("NATS_USER")
        .context("user"),
    key(Id::Password, "password", Form::Secret)
        .variable("NATS_PASSWORD")
        .context("password"),
    key(Id::Token, "token", Form::Secret)
        .variable("NATS_TOKEN")
        .context("token"),
    key(Id::Creds, "creds", Form::Path)
        .variable("NATS_CREDS")
        .context("creds"),
    key(Id::Nkey, "nkey", Form::Path).variable("NATS_NKEY").context("nkey"),
    key(Id::Jwt, "jwt", Form::Secret)
        .alias(&["user_jwt"])
        .variable("NATS_JWT")
        .context("user_jwt"),
    key(Id::Seed, "seed", Form::Secret)
        .alias(&["user_seed"])
        .variable("NATS_SEED")
        .context("user_seed"),
    key(Id::TlsEnabled, "tls_enabled", Form::Flag),
    key(Id::TlsCa, "tls_ca", Form::Path).variable("NATS_CA").context("ca"),
    key(Id::TlsCert, "tls_cert", Form::Path)
        .variable("NATS_CERT")
        .context("cert"),
    key(Id::TlsKey, "tls_key", Form::Path)
        .variable("NATS_KEY")
        .context("key"),
    key(Id::TlsFirst, "tls_first", Form::Flag)
        .context("tls_first")
        .default("false"),
    key(Id::InboxPrefix, "inbox_prefix", Form::Text)
        .context("inbox_prefix")
        .default("_INBOX"),
    key(Id::Name, "name", Form::Text),
    key(Id::Timeout, "timeout", Form::Duration)
        .variable("NATS_TIMEOUT")
        .default("5s"),
    key(Id::PingInterval, "ping_interval", Form::Duration).default("10s"),
    key(Id::MaxReconnect, "max_reconnect", Form::Attempts)
        .alias(&["max_reconnects"])
        .default("-1"),
    key(Id::ReconnectWait, "reconnect_wait", Form::Duration),
    key(Id::ConnectionsPerServer, "connections_per_server", Form::Count)
        .alias(&["idle_per_server"])
        .default("1"),
    key(Id::JetstreamEnabled, "jetstream_enabled", Form::Flag),
    key(Id::JetstreamDomain, "jetstream_domain", Form::Text).context("jetstream_domain"),
    key(Id::UseConsul, "use_consul", Form::Flag).default("false"),
    key(Id::ServiceName, "service_name", Form::Text).default("nats-service"),
    key(Id::ConsulAddress, "consul_address", Form::Url).variable("CONSUL_HTTP_ADDR"),
    key(Id::ConsulToken, "consul_token", Form::Secret).variable("CONSUL_HTTP_TOKEN"),
    key(Id::ConsulDatacenter, "consul_datacenter", Form::Text),
    key(Id::ConsulTags, "consul_tags", Form::List),
    key(Id::ConsulSsl, "consul_ssl", Form::Flag).variable("CONSUL_HTTP_SSL"),
    key(Id::ConsulCa, "consul_ca", Form::Path).variable("CONSUL_CACERT"),
    key(Id::ConsulCert, "consul_cert", Form::Path).variable("CONSUL_CLIENT_CERT"),
    key(Id::ConsulKey, "consul_key", Form::Path).variable("CONSUL_CLIENT_KEY"),
    key(Id::ClusterName, "cluster_id", Form::Ignored),
    key(Id::GrpcPort, "grpc_port", Form::Ignored),
    key(Id::MaxPingsOut, "max_pings_out", Form::Ignored),
];

/// The key with this name in a file.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.names().any(|known| known == name))
}

/// The secret key whose file this name in a file gives: `password_file`.
pub(crate) fn find_file(name: &str) -> Option<&'static Key> {
    find(name.strip_suffix(FILE_SUFFIX)?).filter(|key| key.form == Form::Secret)
}

/// The name of a key.
pub(crate) fn name(id: Id) -> &'static str {
    KEYS.iter().find(|key| key.id == id).map_or("", |key| key.name)
}

/// The known name that somebody who wrote `name` may have meant.
pub(crate) fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // What is longer is no mistyped key, and would cost memory.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_ascii_lowercase();
    // Longer names have room for more mistakes; a name of three letters is near to everything.
    let limit = (name.chars().count() / 3).clamp(1, 3);
    known
        .map(|known| (distance(&name, known), known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}

/// All names that a file may hold.
pub(crate) fn all_names() -> Vec<String> {
    let mut names: Vec<_> = KEYS.iter().flat_map(Key::names).map(str::to_owned).collect();
    let secrets = KEYS.iter().filter(|key| key.form == Form::Secret);
    names.extend(secrets.flat_map(Key::names).map(|name| format!("{name}{FILE_SUFFIX}")));
    names
}

/// How many letters have to be added, dropped, replaced, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swapped = match i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    true => rows[i - 2][j - 2] + 1,
                    false => usize::MAX,
                };
                replaced.min(swapped).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_stands_for_two_keys() {
        let names = all_names();
        let unique: HashSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        let ids: HashSet<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(ids.len(), KEYS.len());
    }

    #[test]
    fn the_manual_has_every_key() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let manual = std::fs::read_to_string(path).unwrap();
        let rows: Vec<&str> = manual.lines().filter(|line| line.starts_with("| `")).collect();
        for key in KEYS {
            let name = format!("`{}`", key.name);
            let row = rows
                .iter()
                .find(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&name)));
            let row = row.unwrap_or_else(|| panic!("{name} has no row"));
            let others = key
                .aliases
                .iter()
                .copied()
                .chain(key.variable)
                .chain(key.context)
                .chain(key.default);
            for other in others {
                assert!(row.contains(&format!("`{other}`")), "`{other}` is not in {row}");
            }
        }
    }

    #[test]
    fn mistakes_find_what_was_meant() {
        for (written, meant) in [
            ("passwrod", Some("password")),
            ("pasword", Some("password")),
            ("Urls", Some("urls")),
            ("jetstream_domian", Some("jetstream_domain")),
            ("max_reconect", Some("max_reconnect")),
            ("url_s", Some("urls")),
            ("tls_enable", Some("tls_enabled")),
            ("nats_server", None),
            ("log", None),
            ("", None),
        ] {
            let names = all_names();
            assert_eq!(suggest(written, names.iter().map(String::as_str)), meant, "{written}");
        }
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("abc", ""), 3);
    }

    #[test]
    fn secrets_may_be_in_files() {
        assert_eq!(find_file("password_file").map(|key| key.id), Some(Id::Password));
        assert!(find_file("urls_file").is_none() && find_file("file").is_none() && find("password_file").is_none());
    }
}
