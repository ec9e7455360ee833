//! What a user may do, as nats-server tells it.

use std::time::Duration;

use serde::Deserialize;

use super::subject::covers;

/// The `permissions` of a user. An empty list of what is allowed allows everything.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Permissions {
    #[serde(default)]
    publish: Rules,
    #[serde(default)]
    subscribe: Rules,
    /// `allow_responses`.
    pub(super) responses: Option<Responses>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Rules {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

/// What `allow_responses` grants for each message that comes with a reply subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Responses {
    /// Messages; negative for any number.
    pub(super) max: i64,
    /// In nanoseconds from the request; negative for ever.
    ttl: i64,
}

impl Responses {
    /// How long an answer may take; `None` for any time.
    pub(super) fn lifetime(self) -> Option<Duration> {
        u64::try_from(self.ttl).ok().map(Duration::from_nanos)
    }
}

/// May it be done?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    /// Not in the list of what is allowed.
    NotListed,
    /// In the list of what is denied, by this entry.
    DeniedBy(String),
    /// It could not be found out.
    Unknown,
}

impl Verdict {
    pub(super) fn is_allowed(&self) -> bool {
        *self == Self::Allowed
    }

    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::NotListed | Self::DeniedBy(_))
    }
}

impl Permissions {
    /// May messages be published to this subject, `allow_responses` aside?
    pub(super) fn publish(&self, subject: &str) -> Verdict {
        // With `allow_responses` and without a list, nothing but responses is allowed.
        let is_listed = self.publish.allow.iter().any(|pattern| covers(pattern, subject));
        let is_open = self.publish.allow.is_empty() && self.responses.is_none();
        if !is_listed && !is_open {
            return Verdict::NotListed;
        }
        match self.publish.deny.iter().find(|pattern| covers(pattern, subject)) {
            Some(pattern) => Verdict::DeniedBy(pattern.clone()),
            None => Verdict::Allowed,
        }
    }

    /// The patterns below `prefix` that may be published to, although `subject` may not.
    pub(super) fn others_below(&self, prefix: &str, subject: &str) -> Vec<String> {
        let Rules { allow, deny } = &self.publish;
        let is_denied = |pattern: &str| deny.iter().any(|denied| covers(denied, pattern));
        allow
            .iter()
            .filter(|pattern| pattern.starts_with(prefix) && !covers(pattern, subject) && !is_denied(pattern))
            .cloned()
            .collect()
    }

    /// May it be subscribed to, in this queue group?
    ///
    /// An entry is a pattern, or a pattern, a blank, and a pattern of queue groups. Entries with a group decide alone where
    /// there are any for the subject.
    pub(super) fn subscribe(&self, subject: &str, queue_group: Option<&str>) -> Verdict {
        let Rules { allow, deny } = &self.subscribe;
        if !allow.is_empty() {
            let (plain, grouped) = matches(allow, subject);
            let is_listed = match queue_group {
                Some(group) if !grouped.is_empty() => grouped.iter().any(|(_, groups)| covers(groups, group)),
                _ => !plain.is_empty(),
            };
            if !is_listed {
                return Verdict::NotListed;
            }
        }
        let (plain, grouped) = matches(deny, subject);
        let denied = match queue_group {
            Some(group) if !grouped.is_empty() => grouped
                .iter()
                .find(|(_, groups)| covers(groups, group))
                .map(|(entry, _)| *entry),
            _ => plain.first().copied(),
        };
        match denied {
            Some(entry) => Verdict::DeniedBy(entry.to_owned()),
            None => Verdict::Allowed,
        }
    }
}

/// The entries that cover a subject: those without a queue group, and those with one, each with its groups.
fn matches<'a>(entries: &'a [String], subject: &str) -> (Vec<&'a str>, Vec<(&'a str, &'a str)>) {
    let (mut plain, mut grouped) = (Vec::new(), Vec::new());
    for entry in entries {
        let mut parts = entry.split_whitespace();
        let pattern = parts.next().unwrap_or_default();
        if !covers(pattern, subject) {
            continue;
        }
        match parts.next() {
            Some(groups) => grouped.push((entry.as_str(), groups)),
            None => plain.push(entry.as_str()),
        }
    }
    (plain, grouped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(json: &str) -> Permissions {
        serde_json::from_str(json).expect("permissions are JSON")
    }

    #[test]
    fn empty_permissions_allow_everything() {
        let all = permissions(r#"{"publish":{},"subscribe":{}}"#);
        assert!(all.publish("a").is_allowed());
        assert!(all.subscribe("a.>", Some("q")).is_allowed());
        assert_eq!(all.responses, None);
    }

    // As nats-server 2.15.1 has it for a user with these, which was seen to decide so.
    #[test]
    fn lists_decide() {
        let lists = permissions(
            r#"{"publish":{"allow":["$SYS.REQ.USER.INFO","svc.\u003e"],"deny":["svc.d"]},
                "subscribe":{"allow":["_INBOX.\u003e","q.\u003e grp"],"deny":["_INBOX.a.*"]}}"#,
        );
        assert_eq!(lists.publish("foo"), Verdict::NotListed);
        assert_eq!(lists.publish("_INBOX.x.y"), Verdict::NotListed);
        assert_eq!(lists.publish("svc.d"), Verdict::DeniedBy("svc.d".to_owned()));
        assert!(lists.publish("svc.e").is_allowed());

        assert_eq!(lists.subscribe("q.a", None), Verdict::NotListed);
        assert!(lists.subscribe("q.a", Some("grp")).is_allowed());
        assert_eq!(lists.subscribe("q.a", Some("other")), Verdict::NotListed);
        assert_eq!(lists.subscribe("foo", Some("grp")), Verdict::NotListed);
        for denied in ["_INBOX.a.>", "_INBOX.a.*"] {
            assert_eq!(
                lists.subscribe(denied, None),
                Verdict::DeniedBy("_INBOX.a.*".to_owned())
            );
        }
        assert!(lists.subscribe("_INBOX.*.*", None).is_allowed());
        assert_eq!(lists.subscribe(">", None), Verdict::NotListed);
    }

    #[test]
    fn a_denied_queue_group_is_denied_alone() {
        let lists = permissions(r#"{"subscribe":{"deny":["svc.a v1.*"]}}"#);
        assert_eq!(
            lists.subscribe("svc.a", Some("v1.x")),
            Verdict::DeniedBy("svc.a v1.*".to_owned())
        );
        assert!(lists.subscribe("svc.a", Some("v2")).is_allowed());
        assert!(lists.subscribe("svc.a", None).is_allowed());
    }

    #[test]
    fn inboxes_of_others_are_found() {
        let lists =
            permissions(r#"{"publish":{"allow":["_INBOX.>","_INBOX_a.>","_INBOX_b.>","x"],"deny":["_INBOX_b.>"]}}"#);
        assert_eq!(lists.others_below("_INBOX", "_INBOX.a.b"), ["_INBOX_a.>"]);
    }

    #[test]
    fn with_allow_responses_nothing_else_is_open() {
        let only = permissions(r#"{"publish":{},"subscribe":{},"responses":{"max":1,"ttl":120000000000}}"#);
        assert_eq!(only.publish("a"), Verdict::NotListed);
        let responses = only.responses.unwrap();
        assert_eq!(responses.max, 1);
        assert_eq!(responses.lifetime(), Some(Duration::from_secs(120)));
        let endless = permissions(r#"{"responses":{"max":-1,"ttl":-1000000000}}"#);
        assert_eq!(endless.responses.unwrap().lifetime(), None);
    }
}
