//! Who the server takes us for, and what that user may do.

use std::time::Duration;

use bytes::Bytes;
use natstream::connect::token;
use natstream::proto::INBOX_PREFIX;
use serde::Deserialize;

use super::ask::{Inbox, Reply};
use super::finding::{Finding, Level};
use super::permissions::{Permissions, Responses, Verdict};

/// Tells a user's account and permissions; every user may ask, unless that is denied.
const USER_INFO: &str = "$SYS.REQ.USER.INFO";

/// The queue group of handlers, unless they say another one.
const QUEUE_GROUP: &str = "q";

/// An answer that takes longer is rare.
const SHORT_LIFETIME: Duration = Duration::from_secs(3600);

pub(super) const GRANT: &str = "permissions: { allow_responses: { max: -1, expires: \"24h\" } }";

/// What the server says about a user.
#[derive(Clone, Debug, Deserialize)]
struct Info {
    data: User,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct User {
    /// A name, or the public key of a user with a JWT.
    user: String,
    account: String,
    /// Of a user with a JWT.
    user_name: Option<String>,
    account_name: Option<String>,
    permissions: Option<Permissions>,
    /// Nanoseconds until the JWT expires.
    expires: Option<u64>,
}

/// What became of the question who we are.
#[derive(Debug)]
pub(super) enum Answer {
    User(Box<User>),
    /// With what there is to say about it.
    Unknown(Finding),
}

/// Asks who we are.
pub(super) async fn ask(inbox: &mut Inbox) -> Answer {
    read(&inbox.ask(USER_INFO, Bytes::new()).await)
}

fn read(reply: &Reply) -> Answer {
    let check = "user";
    Answer::Unknown(match reply {
        Reply::Message(json) => match serde_json::from_slice::<Info>(json) {
            Ok(info) => return Answer::User(Box::new(info.data)),
            Err(error) => Finding::warning(
                check,
                format!("what the server says about this user is unreadable: {error}"),
            ),
        },
        Reply::Denied => Finding::info(
            check,
            format!("this user may not ask for its own permissions (`{USER_INFO}`), so that they were tried out"),
        )
        .with_fix(allow("publish", &[USER_INFO])),
        // A server with operators and without a system account, or an old one.
        Reply::NoResponders => Finding::info(
            check,
            format!("the server does not tell users their permissions (`{USER_INFO}`), so that they were tried out"),
        )
        .with_fix("system_account: NAME"),
        Reply::Silent => Finding::warning(check, format!("no answer from `{USER_INFO}`")),
    })
}

/// What a user may do that streams need.
#[derive(Clone, Debug)]
pub(super) struct Abilities {
    /// Of this user's own inboxes.
    prefix: String,
    /// Publish to the inboxes of others of the same account, who have no prefix of their own.
    inboxes: Verdict,
    /// Where `inboxes` is not allowed: those that are, by their pattern.
    some_inboxes: Vec<String>,
    /// Publish to the inboxes of others across accounts.
    mapped: Verdict,
    /// `allow_responses`; `None` is also what is not known.
    responses: Option<Responses>,
    /// Is `responses` known?
    is_known: bool,
    /// Publish to the subject in question, and subscribe to it.
    subject: Option<(Verdict, Verdict)>,
}

impl User {
    pub(super) fn finding(&self) -> Finding {
        let name = self.user_name.as_ref().unwrap_or(&self.user);
        let user = match name.as_str() {
            "" => "no user name".to_owned(),
            name => format!("user `{name}`"),
        };
        let account = self.account_name.as_ref().unwrap_or(&self.account);
        let rights = match &self.permissions {
            Some(_) => "",
            None => ", without restrictions",
        };
        let expires = self.expires.map(Duration::from_nanos).map_or_else(String::new, |left| {
            let left = Duration::from_secs(left.as_secs());
            format!(", for {} more", humantime::format_duration(left))
        });
        Finding::ok("user", format!("{user} of account `{account}`{rights}{expires}"))
    }

    /// What it may do, by its permissions.
    pub(super) fn abilities(&self, prefix: &str, subject: Option<&str>) -> Abilities {
        let all = Permissions::default();
        let permissions = self.permissions.as_ref().unwrap_or(&all);
        let mut some_inboxes = permissions.others_below(INBOX_PREFIX, &someones_inbox());
        // Of another form; peers may share it.
        if !prefix.starts_with(INBOX_PREFIX) && permissions.publish(&inbox_below(prefix)).is_allowed() {
            some_inboxes.push(format!("{prefix}.>"));
        }
        Abilities {
            prefix: prefix.to_owned(),
            inboxes: permissions.publish(&someones_inbox()),
            some_inboxes,
            mapped: permissions.publish(&someones_mapped_inbox()),
            responses: permissions.responses,
            is_known: true,
            subject: subject.map(|subject| {
                (
                    permissions.publish(subject),
                    permissions.subscribe(subject, Some(QUEUE_GROUP)),
                )
            }),
        }
    }
}

/// What a user may do, by trying what does nothing: to publish where nobody is subscribed.
pub(super) async fn try_out(inbox: &mut Inbox, prefix: &str) -> Abilities {
    let verdict = |reply| match reply {
        Reply::Denied => Verdict::NotListed,
        Reply::Silent => Verdict::Unknown,
        Reply::NoResponders | Reply::Message(_) => Verdict::Allowed,
    };
    let inboxes = verdict(inbox.ask(&someones_inbox(), Bytes::new()).await);
    // Those of peers cannot be guessed; but instances of one program share their prefix.
    let mut some_inboxes = Vec::new();
    if inboxes.is_denied() && prefix != INBOX_PREFIX {
        let own = verdict(inbox.ask(&inbox_below(prefix), Bytes::new()).await);
        some_inboxes.extend(own.is_allowed().then(|| format!("{prefix}.>")));
    }
    Abilities {
        prefix: prefix.to_owned(),
        inboxes,
        mapped: verdict(inbox.ask(&someones_mapped_inbox(), Bytes::new()).await),
        some_inboxes,
        responses: None,
        is_known: false,
        // To subscribe could take requests away from those who serve it; to publish is a request.
        subject: None,
    }
}

fn someones_inbox() -> String {
    inbox_below(INBOX_PREFIX)
}

/// One that nobody has.
fn inbox_below(prefix: &str) -> String {
    format!("{prefix}.{}.{}", token(), token())
}

fn someones_mapped_inbox() -> String {
    format!("_R_.{}", token())
}

impl Abilities {
    /// Is it open whether this user may send what a call needs? Then only a call shows it: it depends on where the inbox of
    /// the responder is.
    pub(super) fn leaves_credit_open(&self) -> bool {
        let verdicts = [&self.inboxes, &self.mapped];
        verdicts.iter().any(|verdict| !verdict.is_allowed())
    }

    /// May this user call the subject, as far as is known?
    pub(super) fn may_call(&self) -> bool {
        self.subject.as_ref().is_none_or(|(publish, _)| !publish.is_denied())
    }

    pub(super) fn findings(&self, subject: Option<&str>) -> Vec<Finding> {
        let mut findings = vec![self.responses()];
        if let (Some(subject), Some((publish, subscribe))) = (subject, &self.subject) {
            findings.extend(roles(subject, publish, subscribe));
        }
        findings
    }

    /// A responder answers to inboxes; a caller gives credit, and cancels, by messages to the responder's. Both need the
    /// same.
    fn responses(&self) -> Finding {
        let check = "responses";
        let (here, across) = (self.inboxes.is_allowed(), self.mapped.is_allowed());
        if here && across {
            return Finding::ok(check, "may publish to inboxes, in this account and across accounts");
        }
        if [&self.inboxes, &self.mapped].contains(&&Verdict::Unknown) {
            return Finding::warning(check, "whether this user may publish to inboxes could not be found out");
        }
        let grants = self.responses.is_some_and(|responses| responses.max < 0);
        if !here && !grants && !self.some_inboxes.is_empty() {
            let text = format!(
                "may publish to inboxes below {} only: peers need such an --inbox-prefix",
                self.some_inboxes.join(" and ")
            );
            return Finding::info(check, text).with_fix(self.inbox_fix());
        }
        let both = !here && !across;
        let unlisted = match (here, across) {
            (true, _) => "may not publish to inboxes across accounts (`_R_.>`)",
            (_, true) => "may not publish to inboxes of this account (`_INBOX.>`)",
            _ => "may publish neither to inboxes (`_INBOX.>`) nor across accounts (`_R_.>`)",
        };
        let level = if both { Level::Wrong } else { Level::Info };
        match self.responses {
            Some(responses) if responses.max < 0 => granted(responses, both),
            Some(responses) => {
                let text = format!(
                    "{unlisted}, and `allow_responses` allows for {} to each request: longer calls and answers are cut",
                    messages(responses.max)
                );
                Finding::new(level, check, text).with_fix(GRANT)
            }
            None if !self.is_known => {
                let text = format!(
                    "{unlisted}: it needs `allow_responses` there, or the inboxes of its peers, and whether it has them is \
                     not known"
                );
                let level = if both { Level::Warning } else { Level::Info };
                Finding::new(level, check, text)
                    .with_fix(allow("publish", &[USER_INFO]))
                    .and_fix(self.inbox_fix())
                    .and_fix(format!("or: {GRANT}"))
            }
            None if !here && !self.prefix.starts_with(INBOX_PREFIX) => {
                let text = format!(
                    "{unlisted}, nor below its own prefix `{}`: whether it may to those of its peers, a call shows",
                    self.prefix
                );
                let level = if both { Level::Warning } else { Level::Info };
                Finding::new(level, check, text)
                    .with_fix(self.inbox_fix())
                    .and_fix(format!("or: {GRANT}"))
            }
            None => {
                let text = format!(
                    "{unlisted}: it can answer nobody there, and calls there stop when their first window is full"
                );
                Finding::new(level, check, text)
                    .with_fix(self.inbox_fix())
                    .and_fix(format!("or: {GRANT}"))
            }
        }
    }

    /// For inboxes of peers: who has a prefix has peers with one, and need not write to everybody.
    fn inbox_fix(&self) -> String {
        let inboxes = match self.prefix.as_str() {
            INBOX_PREFIX => (&self.inboxes, "_INBOX.>"),
            _ if self.inboxes.is_denied() => (&Verdict::NotListed, "_INBOX_PEER.>"),
            _ => (&Verdict::Allowed, "_INBOX_PEER.>"),
        };
        let verdicts = [inboxes, (&self.mapped, "_R_.>")];
        let denied = verdicts.iter().find_map(|(verdict, _)| match verdict {
            Verdict::DeniedBy(pattern) => Some(pattern),
            _ => None,
        });
        if let Some(pattern) = denied {
            return undeny("publish", pattern);
        }
        let missing = verdicts.iter().filter(|(verdict, _)| !verdict.is_allowed());
        allow("publish", &missing.map(|(_, pattern)| *pattern).collect::<Vec<_>>())
    }
}

/// `allow_responses` for any number of messages; `both`: in this account and across accounts, nothing else helps.
fn granted(responses: Responses, both: bool) -> Finding {
    let check = "responses";
    let level = if both { Level::Warning } else { Level::Info };
    match responses.lifetime() {
        None => Finding::new(
            level,
            check,
            "`allow_responses` never expires: the server remembers each request for ever, and its memory grows",
        )
        .with_fix(GRANT),
        Some(lifetime) if lifetime < SHORT_LIFETIME => Finding::new(
            level,
            check,
            format!(
                "`allow_responses` expires {} after the request: longer calls and answers are cut",
                humantime::format_duration(lifetime)
            ),
        )
        .with_fix(GRANT),
        Some(lifetime) => Finding::ok(
            check,
            format!(
                "may answer each request for {} (`allow_responses`)",
                humantime::format_duration(lifetime)
            ),
        ),
    }
}

fn messages(count: i64) -> String {
    match count {
        1 => "1 message".to_owned(),
        n => format!("{n} messages"),
    }
}

/// To call and to serve are rights of their own, of which a user may need one only.
fn roles(subject: &str, publish: &Verdict, subscribe: &Verdict) -> Vec<Finding> {
    let fix = |what, verdict: &Verdict| match verdict {
        Verdict::DeniedBy(pattern) => undeny(what, pattern),
        _ => allow(what, &[subject]),
    };
    let neither = publish.is_denied() && subscribe.is_denied();
    let level = if neither { Level::Wrong } else { Level::Info };
    let judge = |check, what, verdict: &Verdict, role: String| match verdict.is_denied() {
        true => Finding::new(level, check, format!("may not {role}")).with_fix(fix(what, verdict)),
        false => Finding::ok(check, format!("may {role}")),
    };
    let serve = format!("serve `{subject}` in the queue group `{QUEUE_GROUP}`");
    vec![
        judge("call", "publish", publish, format!("call `{subject}`")),
        judge("serve", "subscribe", subscribe, serve),
    ]
}

/// The permission to add.
pub(super) fn allow(what: &str, subjects: &[&str]) -> String {
    let list: Vec<_> = subjects.iter().map(|subject| format!("\"{subject}\"")).collect();
    format!(
        "permissions: {{ {what}: {{ allow: [{}] }} }}  # beside what is there",
        list.join(", ")
    )
}

/// The entry to remove.
fn undeny(what: &str, pattern: &str) -> String {
    format!("permissions: {{ {what}: {{ deny: [] }} }}  # without \"{pattern}\"")
}

#[cfg(test)]
mod tests;
