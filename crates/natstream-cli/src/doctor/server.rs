//! What the server says about itself, and how far away it is.

use std::time::Duration;

use natstream::Connection;
use natstream::proto::{INBOX_PREFIX, MAX_UNIT, MIN_UNIT};

use super::finding::Finding;
use crate::size;

/// What a responder leaves free of `max_payload` for the headers of a message.
const HEADERS: usize = 1024 + 384;

/// What it leaves free besides for headers of its handler, where there is room.
const HANDLER_HEADERS: usize = 4096;

/// Messages are as large as natstream makes them.
const FULL_PAYLOAD: usize = MAX_UNIT + HEADERS + HANDLER_HEADERS;

/// A stream cannot be had with less: half of what remains is for headers of the handler.
const LEAST_PAYLOAD: usize = 2 * MIN_UNIT + HEADERS;

/// Older servers are not tested with natstream.
const OLDEST: (u64, u64) = (2, 12);

/// Above, an answer of many items is slow: its window is 8 MiB for each round trip.
const FAR: Duration = Duration::from_millis(500);

/// What there is to know about the server, and about the way there.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Without user info.
    pub(super) url: Option<String>,
    /// If it was given one.
    pub(super) name: Option<String>,
    pub(super) version: String,
    pub(super) cluster: Option<String>,
    /// Servers of the cluster that clients are told of.
    pub(super) servers: usize,
    pub(super) headers: bool,
    pub(super) auth_required: bool,
    pub(super) tls: bool,
    pub(super) max_payload: usize,
    pub(super) lame_duck: bool,
    pub(super) inbox_prefix: String,
}

impl Facts {
    /// `demands_tls`: the options would have failed without.
    pub(super) fn of(connection: &Connection, demands_tls: bool) -> Self {
        let info = connection.server_info();
        let url = connection.server_url();
        let is_secure = |url: &String| url.starts_with("tls:") || url.starts_with("wss:");
        Self {
            tls: demands_tls || info.tls_required || url.as_ref().is_some_and(is_secure),
            url,
            // Without a name, the id stands in for it.
            name: (info.server_name != info.server_id).then_some(info.server_name),
            version: info.version,
            cluster: info.cluster,
            servers: info.connect_urls.len(),
            headers: info.headers,
            auth_required: info.auth_required,
            max_payload: connection.max_payload(),
            lame_duck: info.lame_duck_mode || connection.state().borrow().lame_duck,
            inbox_prefix: connection.inbox_prefix().to_owned(),
        }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![
            self.connection(),
            self.version(),
            self.tls(),
            self.authentication(),
            self.max_payload(),
        ];
        if self.lame_duck {
            findings.push(Finding::warning(
                "lame_duck",
                "this server is about to stop (lame duck mode); connections move to another one, if there is one",
            ));
        }
        findings.extend(self.inbox_prefix());
        findings
    }

    fn connection(&self) -> Finding {
        let mut text = format!("connected to {}", self.url.as_deref().unwrap_or("a server"));
        if let Some(name) = &self.name {
            text += &format!(", `{name}`");
        }
        match (&self.cluster, self.servers) {
            (Some(cluster), 2..) => text += &format!(", one of {} that are known of cluster `{cluster}`", self.servers),
            (Some(cluster), _) => text += &format!(", of cluster `{cluster}`"),
            (None, _) => {}
        }
        Finding::ok("connection", text)
    }

    fn version(&self) -> Finding {
        let version = &self.version;
        let update = format!("nats-server {}.{} or later", OLDEST.0, OLDEST.1);
        match number(version) {
            _ if !self.headers => Finding::wrong(
                "version",
                format!("nats-server {version} has no headers, without which there are no streams"),
            )
            .with_fix(update),
            Some(number) if number >= OLDEST => Finding::ok("version", format!("nats-server {version}")),
            Some(_) => Finding::warning(
                "version",
                format!("nats-server {version} is older than those that natstream is tested with"),
            )
            .with_fix(update),
            None => Finding::warning(
                "version",
                format!("the server's version is `{version}`, which says nothing"),
            ),
        }
    }

    fn tls(&self) -> Finding {
        match self.tls {
            true => Finding::ok("tls", "the connection is encrypted"),
            false => Finding::info(
                "tls",
                "the connection is not encrypted: the network can read and change what it carries",
            )
            .with_fix("tls { cert_file: \"server.pem\", key_file: \"server-key.pem\" }"),
        }
    }

    fn authentication(&self) -> Finding {
        match self.auth_required {
            true => Finding::ok("authentication", "the server lets in only whom it knows"),
            false => Finding::info(
                "authentication",
                "the server lets everybody in, and everybody may do everything",
            )
            .with_fix("authorization { users: [ { user: NAME, password: SECRET } ] }"),
        }
    }

    fn max_payload(&self) -> Finding {
        let check = "max_payload";
        let fix = "max_payload: 1MB";
        let bytes = self.max_payload;
        match bytes {
            FULL_PAYLOAD.. => Finding::ok(check, size::display(bytes as f64)),
            LEAST_PAYLOAD.. => Finding::warning(
                check,
                format!(
                    "{bytes} bytes are less than {FULL_PAYLOAD}: messages are smaller than they could be, and slower"
                ),
            )
            .with_fix(fix),
            _ => Finding::wrong(
                check,
                format!("{bytes} bytes are too few for streams, which need {LEAST_PAYLOAD}"),
            )
            .with_fix(fix),
        }
    }

    /// What is notable about where answers arrive.
    fn inbox_prefix(&self) -> Option<Finding> {
        let check = "inbox_prefix";
        let prefix = &self.inbox_prefix;
        // Rule 6 of the protocol.
        if !prefix.starts_with(INBOX_PREFIX) {
            let text = format!("peers answer only below `{INBOX_PREFIX}…`, unless their settings name `{prefix}`");
            let fix = format!("--inbox-prefix {INBOX_PREFIX}_{prefix}");
            return Some(Finding::warning(check, text).with_fix(fix));
        }
        (prefix == INBOX_PREFIX && self.auth_required).then(|| {
            let text = format!("users of this account who may subscribe to `{prefix}.>` can read each other's answers");
            Finding::info(check, text)
                .with_fix("--inbox-prefix _INBOX_NAME")
                .and_fix("permissions: { subscribe: { allow: [\"_INBOX_NAME.>\"] } }")
        })
    }
}

/// The round trips that were made, in any order.
pub(super) fn round_trip(mut trips: Vec<Duration>) -> Finding {
    let check = "round_trip";
    trips.sort_unstable();
    let Some(&median) = trips.get(trips.len() / 2) else {
        return Finding::wrong(check, "the server does not answer");
    };
    let text = format!("{} (median of {})", display(median), trips.len());
    match median < FAR {
        true => Finding::ok(check, text),
        false => Finding::warning(
            check,
            format!("{text}: a stream of many items has 8 MiB for each round trip"),
        )
        .with_fix("call --window 12MiB"),
    }
}

/// `0.21 ms`, `5.00 s`.
pub(super) fn display(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{:.2} ms", time.as_secs_f64() * 1000.0),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// Major and minor number.
fn number(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    fn facts() -> Facts {
        Facts {
            url: Some("nats://127.0.0.1:4222".to_owned()),
            name: Some("n0".to_owned()),
            version: "2.15.1".to_owned(),
            cluster: None,
            servers: 0,
            headers: true,
            auth_required: true,
            tls: true,
            max_payload: 1 << 20,
            lame_duck: false,
            inbox_prefix: "_INBOX_app".to_owned(),
        }
    }

    /// `Ok` also where there is nothing to say.
    fn level(facts: &Facts, check: &str) -> Level {
        let findings = facts.findings();
        let finding = findings.iter().find(|finding| finding.check == check);
        finding.map_or(Level::Ok, |finding| finding.level)
    }

    #[test]
    fn a_good_server_is_good() {
        let findings = facts().findings();
        assert!(
            findings.iter().all(|finding| finding.level == Level::Ok),
            "{findings:?}"
        );
        let cluster = Facts {
            cluster: Some("c".to_owned()),
            servers: 3,
            ..facts()
        };
        assert!(cluster.findings()[0].text.contains("one of 3"));
    }

    #[test]
    fn versions_are_judged() {
        for (version, headers, expected) in [
            ("2.15.1", true, Level::Ok),
            ("2.12.0-RC.1", true, Level::Ok),
            ("3.0.0", true, Level::Ok),
            ("2.11.9", true, Level::Warning),
            ("", true, Level::Warning),
            ("2.1.0", false, Level::Wrong),
        ] {
            let facts = Facts {
                version: version.to_owned(),
                headers,
                ..facts()
            };
            assert_eq!(level(&facts, "version"), expected, "{version}");
        }
    }

    #[test]
    fn small_payloads_are_judged() {
        for (max_payload, expected) in [
            (1 << 20, Level::Ok),
            (71_040, Level::Ok),
            (71_039, Level::Warning),
            (1664, Level::Warning),
            (1663, Level::Wrong),
            (0, Level::Wrong),
        ] {
            let facts = Facts { max_payload, ..facts() };
            assert_eq!(level(&facts, "max_payload"), expected, "{max_payload}");
        }
    }

    #[test]
    fn a_foreign_prefix_is_not_answered_to() {
        for (prefix, auth_required, expected) in [
            ("_INBOX", false, Level::Ok),
            ("_INBOX", true, Level::Info),
            ("_INBOX_app", true, Level::Ok),
            ("app", true, Level::Warning),
        ] {
            let facts = Facts {
                inbox_prefix: prefix.to_owned(),
                auth_required,
                ..facts()
            };
            assert_eq!(level(&facts, "inbox_prefix"), expected, "{prefix}");
        }
    }

    #[test]
    fn what_is_not_safe_is_said() {
        let facts = Facts {
            tls: false,
            auth_required: false,
            lame_duck: true,
            ..facts()
        };
        assert_eq!(level(&facts, "tls"), Level::Info);
        assert_eq!(level(&facts, "authentication"), Level::Info);
        assert_eq!(level(&facts, "lame_duck"), Level::Warning);
    }

    #[test]
    fn a_round_trip_is_the_median() {
        let trips = [9, 1, 2].map(Duration::from_millis).to_vec();
        assert_eq!(round_trip(trips).text, "2.00 ms (median of 3)");
        assert_eq!(round_trip(vec![FAR]).level, Level::Warning);
        assert_eq!(round_trip(Vec::new()).level, Level::Wrong);
    }
}
