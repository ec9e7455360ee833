//! The server list: what a user may write, taken apart once, with the user info out of the way.

use async_nats::ServerAddr;
use url::Url;

use crate::credentials::Credentials;
use crate::error::ConnectError;

/// What [`ConnectConfig::new`](crate::ConnectConfig::new) takes as a list of servers.
///
/// One text (`"nats://a:4222,nats://b:4222"`) or several (`["a", "b"]`, a `Vec<String>`, a slice).
/// Every text may hold several servers, separated by commas.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of NATS servers",
    label = "give a text such as \"nats://a:4222,nats://b:4222\", or several texts"
)]
pub trait IntoServers {
    /// The entries, not yet checked.
    fn into_servers(self) -> Vec<String>;
}

impl IntoServers for &str {
    fn into_servers(self) -> Vec<String> {
        split(self)
    }
}

impl IntoServers for String {
    fn into_servers(self) -> Vec<String> {
        split(&self)
    }
}

impl IntoServers for &String {
    fn into_servers(self) -> Vec<String> {
        split(self)
    }
}

impl<S: AsRef<str>> IntoServers for Vec<S> {
    fn into_servers(self) -> Vec<String> {
        self.as_slice().into_servers()
    }
}

impl<S: AsRef<str>> IntoServers for &Vec<S> {
    fn into_servers(self) -> Vec<String> {
        self.as_slice().into_servers()
    }
}

impl<S: AsRef<str>> IntoServers for &[S] {
    fn into_servers(self) -> Vec<String> {
        self.iter().flat_map(|text| split(text.as_ref())).collect()
    }
}

impl<S: AsRef<str>, const N: usize> IntoServers for [S; N] {
    fn into_servers(self) -> Vec<String> {
        self.as_slice().into_servers()
    }
}

impl<S: AsRef<str>, const N: usize> IntoServers for &[S; N] {
    fn into_servers(self) -> Vec<String> {
        self.as_slice().into_servers()
    }
}

/// A checked list: addresses that may be shown, and the user info that may not.
#[derive(Clone, Debug)]
pub(crate) struct ServerList {
    /// At least one; each is `scheme://host:port` and nothing else.
    pub(crate) addresses: Vec<ServerAddr>,
    /// What stood before the `@`, the same for all servers.
    pub(crate) login: Option<Credentials>,
}

impl ServerList {
    /// The error of an empty list.
    pub(crate) const NO_SERVER: &str = "no server given";

    /// The addresses of a running connection: who it is was settled when it was made.
    pub(crate) fn parse_without_login(entries: &[String]) -> Result<Vec<ServerAddr>, ConnectError> {
        let problem = |message: String| ConnectError::config("servers", message);
        let Self { addresses, login } = Self::parse(entries).map_err(problem)?;
        match login {
            None => Ok(addresses),
            Some(_) => Err(problem("user info cannot be changed; leave it out".to_owned())),
        }
    }

    /// Checks the entries; the error says which entry is wrong and why, in words that show no
    /// secret.
    pub(crate) fn parse(entries: &[String]) -> Result<Self, String> {
        if entries.len() > MOST_SERVERS {
            return Err(format!("more than {MOST_SERVERS} servers"));
        }
        // An entry may hold a password even when it has no `@`: a comma in the password cuts it in
        // two.
        let shown = !entries.iter().any(|entry| entry.contains('@'));
        let mut addresses = Vec::with_capacity(entries.len());
        let mut login: Option<Credentials> = None;
        for (index, entry) in entries.iter().enumerate() {
            let (address, user_info) = parse_entry(entry).map_err(|reason| match shown {
                true => format!("server {} (`{entry}`): {reason}", index + 1),
                false => format!("server {}: {reason}", index + 1),
            })?;
            if let Some(found) = user_info {
                match &login {
                    Some(known) if !known.same_login(&found) => {
                        return Err(format!(
                            "server {}: other user info than before; one connection has one identity",
                            index + 1
                        ));
                    }
                    _ => login = Some(found),
                }
            }
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(Self::NO_SERVER.to_owned());
        }
        Ok(Self { addresses, login })
    }
}

/// Far above any cluster; looking for what stands twice takes the square of this.
const MOST_SERVERS: usize = 1000;

const NO_HOST: &str = "there is no host (an IPv6 address goes in brackets)";

fn split(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(str::to_owned)
        .collect()
}

fn parse_entry(entry: &str) -> Result<(ServerAddr, Option<Credentials>), &'static str> {
    let url = match entry.contains("://") {
        true => Url::parse(entry),
        false => Url::parse(&format!("nats://{entry}")),
    };
    let url = url.map_err(|error| match error {
        url::ParseError::EmptyHost => NO_HOST,
        url::ParseError::InvalidPort => {
            "the port is not a number up to 65535 \
             (`/`, `?`, `#` and `@` in user info are percent-encoded)"
        }
        url::ParseError::InvalidIpv6Address => "the IPv6 address is not valid",
        _ => "not a server URL",
    })?;
    match url.scheme() {
        "nats" | "tls" => {}
        "ws" | "wss" => return Err("WebSocket is not built in; use nats:// or tls://"),
        _ => return Err("the scheme is neither nats:// nor tls://"),
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(NO_HOST)?;
    // `[::1]` has its brackets here; a colon elsewhere cannot stand in a host.
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("a server URL ends after the port (`/`, `?` and `#` in user info are percent-encoded)");
    }
    let port = match url.port() {
        Some(0) => return Err("port 0 cannot be connected to"),
        Some(port) => port,
        None => 4222,
    };
    let clean = format!("{}://{host}:{port}", url.scheme());
    let address = clean.parse().map_err(|_| "not a server URL")?;
    Ok((address, user_info(&url)?))
}

/// `user:password@` or `token@`, as in all NATS clients.
fn user_info(url: &Url) -> Result<Option<Credentials>, &'static str> {
    const ENCODING: &str = "the user info is not valid percent-encoded UTF-8";
    let user = percent_decode(url.username()).ok_or(ENCODING)?;
    match url.password() {
        Some(password) => Ok(Some(Credentials::user_password(
            user,
            percent_decode(password).ok_or(ENCODING)?,
        ))),
        None if user.is_empty() => Ok(None),
        None => Ok(Some(Credentials::token(user))),
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        // `from_str_radix` alone would take a sign.
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(servers: impl IntoServers) -> Result<ServerList, String> {
        ServerList::parse(&servers.into_servers())
    }

    fn shown(list: &ServerList) -> Vec<&str> {
        list.addresses.iter().map(ServerAddr::as_url_str).collect()
    }

    #[test]
    fn every_form_that_the_nats_cli_takes_is_taken() {
        for (text, expected) in [
            ("localhost", "nats://localhost:4222"),
            ("localhost:4333", "nats://localhost:4333"),
            ("nats://127.0.0.1", "nats://127.0.0.1:4222"),
            ("NATS://a.example:1/", "nats://a.example:1"),
            ("tls://a.example", "tls://a.example:4222"),
            ("[::1]", "nats://[::1]:4222"),
            ("nats://[::1]:4333", "nats://[::1]:4333"),
            ("user:pass@host", "nats://host:4222"),
            ("nats://token@host:1", "nats://host:1"),
        ] {
            assert_eq!(shown(&parse(text).expect(text)), [expected], "{text}");
        }
    }

    #[test]
    fn lists_come_as_one_text_or_as_several() {
        let check = |list: Result<ServerList, String>| {
            assert_eq!(shown(&list.unwrap()), ["nats://a:4222", "nats://b:4222"]);
        };
        let (text, array) = ("nats://a:4222, nats://b:4222,".to_owned(), ["a", "b"]);
        let list = vec!["a,b".to_owned(), "a".to_owned()];
        check(parse(text.as_str()));
        check(parse(&text));
        check(parse(text));
        check(parse(array.as_slice()));
        check(parse(array));
        check(parse(&list));
        check(parse(list));
    }

    #[test]
    fn what_cannot_be_a_server_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "no server"),
            (" , ", "no server"),
            ("nats://", "no host"),
            ("nats://:4222", "no host"),
            ("ws://a", "WebSocket"),
            ("wss://a", "WebSocket"),
            ("http://a", "scheme"),
            ("::1", "brackets"),
            ("a:70000", "65535"),
            ("a:0", "port 0"),
            (&"a,".repeat(1001), "more than 1000 servers"),
            ("nats://a/stream", "ends after the port"),
            ("nats://a?tls=1", "ends after the port"),
            ("nats://[::1", "IPv6"),
            ("a b", "server 1 (`a b`)"),
            ("a, nats://b:x", "server 2 (`nats://b:x`)"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn user_info_becomes_credentials() {
        let list = parse("nats://us%40er:p%3Ass%25@a,b").unwrap();
        match list.login.unwrap() {
            Credentials::UserPassword { user, password } => {
                assert_eq!(user, "us@er");
                assert!(password.same_text(&"p:ss%".into()));
            }
            other => panic!("{other:?}"),
        }
        match parse("s3cr3t@a").unwrap().login.unwrap() {
            Credentials::Token(token) => assert!(token.same_text(&"s3cr3t".into())),
            other => panic!("{other:?}"),
        }
        assert!(
            parse("u:s3cr3t@a,u:s3cr3t@b,c").is_ok(),
            "the same identity may be repeated"
        );
        assert!(parse("u:s3cr3t@a,u:other@b").unwrap_err().contains("one identity"));
    }

    #[test]
    fn no_error_and_no_debug_shows_user_info() {
        for text in [
            "user:s3cr3t@a:4222",
            "s3cr3t@a",
            "ws://user:s3cr3t@a",
            "nats://user:s3cr3t/x@a",
            "nats://user:s3cr3t#x@a",
            "nats://user:s3cr3t?x@a",
            "nats://user:%zzs3cr3t@a",
            "nats://user:s3cr3t@",
            "nats://user:pass,s3cr3t@a",
            "nats://user:s3cr3t,word@a",
            "x://user:s3cr3t@a",
            "user:s3cr3t@a,other:s3cr3t@b",
        ] {
            let result = format!("{:?}", parse(text));
            assert!(!result.contains("s3cr3t"), "{text}: {result}");
        }
    }

    #[test]
    fn percent_decoding_is_strict() {
        assert_eq!(percent_decode("a%20b").as_deref(), Some("a b"));
        for bad in ["%", "%2", "%+1", "%zz", "%ff"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,64}") {
            let _ = parse(text);
        }

        #[test]
        fn encoded_user_info_comes_back(user in "[a-z]{1,8}", password in ".{1,16}") {
            let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let list = parse(format!("nats://{user}:{encoded}@host")).unwrap();
            prop_assert!(list.login.unwrap().same_login(&Credentials::user_password(user, password)));
        }
    }
}
