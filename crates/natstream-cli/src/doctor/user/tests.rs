use super::*;

const ENVELOPE: &str = r#"{"server":{"name":"n0","host":"127.0.0.1","id":"N","cluster":"c1","ver":"2.15.1",
    "jetstream":true,"flags":7,"seq":52,"time":"2026-11-20T13:09:17.979754871Z"},"data":DATA}"#;

/// What nats-server 2.15.1 says, with this in place of its data.
fn user(data: &str) -> Box<User> {
    let json = ENVELOPE.replace("DATA", data);
    match read(&Reply::Message(Bytes::from(json))) {
        Answer::User(user) => user,
        Answer::Unknown(finding) => panic!("{finding:?}"),
    }
}

fn restricted(permissions: &str) -> Box<User> {
    user(&format!(
        r#"{{"user":"u","account":"$G","account_name":"$G","permissions":{permissions}}}"#
    ))
}

/// The only finding about responses.
fn responses(permissions: &str) -> Finding {
    responses_of(INBOX_PREFIX, permissions)
}

/// The same, for a user with this inbox prefix.
fn responses_of(prefix: &str, permissions: &str) -> Finding {
    let mut findings = restricted(permissions).abilities(prefix, None).findings(None);
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings.remove(0)
}

#[test]
fn users_of_every_kind_are_told() {
    for (data, text) in [
        (
            r#"{"user":"free","account":"$G","account_name":"$G"}"#,
            "user `free` of account `$G`, without restrictions",
        ),
        (
            r#"{"user":"","account":"$G","account_name":"$G"}"#,
            "no user name of account `$G`, without restrictions",
        ),
        (
            r#"{"user":"UCKM","account":"ABJ4","account_name":"ACC","user_name":"plain",
                "permissions":{"publish":{"deny":["zz"]},"subscribe":{}},"expires":3599000000000}"#,
            "user `plain` of account `ACC`, for 59m 59s more",
        ),
    ] {
        assert_eq!(user(data).finding().text, text);
    }
}

#[test]
fn who_does_not_answer_leaves_it_unknown() {
    for (reply, level) in [
        (Reply::Denied, Level::Info),
        (Reply::NoResponders, Level::Info),
        (Reply::Silent, Level::Warning),
        (Reply::Message(Bytes::from_static(b"{}")), Level::Warning),
    ] {
        match read(&reply) {
            Answer::Unknown(finding) => assert_eq!(finding.level, level, "{reply:?}"),
            Answer::User(user) => panic!("{user:?}"),
        }
    }
}

#[test]
fn who_is_not_restricted_may_do_all() {
    let user = user(r#"{"user":"free","account":"$G","account_name":"$G"}"#);
    let findings = user.abilities(INBOX_PREFIX, Some("a")).findings(Some("a"));
    assert_eq!(findings.len(), 3);
    assert!(
        findings.iter().all(|finding| finding.level == Level::Ok),
        "{findings:?}"
    );
    assert_eq!(responses(r#"{"publish":{},"subscribe":{}}"#).level, Level::Ok);
}

#[test]
fn responses_are_judged() {
    for (permissions, level) in [
        // Neither, or both, or one.
        (r#"{"publish":{"allow":["a"]}}"#, Level::Wrong),
        (r#"{"publish":{"allow":["_INBOX.>","_R_.>"]}}"#, Level::Ok),
        (r#"{"publish":{"allow":["_INBOX.>"]}}"#, Level::Info),
        (r#"{"publish":{"allow":["_R_.>"]}}"#, Level::Info),
        (r#"{"publish":{"deny":["_R_.>"]}}"#, Level::Info),
        (r#"{"publish":{"deny":["_INBOX.>","_R_.>"]}}"#, Level::Wrong),
        // Peers with a prefix of their own.
        (r#"{"publish":{"allow":["_INBOX_app.>"]}}"#, Level::Info),
        (
            r#"{"publish":{"allow":["_INBOX_app.>"]},"responses":{"max":-1,"ttl":86400000000000}}"#,
            Level::Ok,
        ),
        // allow_responses: true, { max: 3 }, { max: -1, expires: "24h" }, 1 minute, and for ever.
        (
            r#"{"publish":{"allow":["a"]},"responses":{"max":1,"ttl":120000000000}}"#,
            Level::Wrong,
        ),
        (
            r#"{"publish":{"allow":["a"]},"responses":{"max":3,"ttl":120000000000}}"#,
            Level::Wrong,
        ),
        (
            r#"{"publish":{"allow":["a"]},"responses":{"max":-1,"ttl":86400000000000}}"#,
            Level::Ok,
        ),
        (
            r#"{"publish":{"allow":["a"]},"responses":{"max":-1,"ttl":60000000000}}"#,
            Level::Warning,
        ),
        (
            r#"{"publish":{"allow":["a"]},"responses":{"max":-1,"ttl":-1000000000}}"#,
            Level::Warning,
        ),
        // Beside a list that goes half the way.
        (
            r#"{"publish":{"allow":["_INBOX.>"]},"responses":{"max":1,"ttl":120000000000}}"#,
            Level::Info,
        ),
        (
            r#"{"publish":{"allow":["_INBOX.>"]},"responses":{"max":-1,"ttl":60000000000}}"#,
            Level::Info,
        ),
    ] {
        let finding = responses(permissions);
        assert_eq!(finding.level, level, "{permissions}: {finding:?}");
        assert_eq!(finding.fix.is_some(), level != Level::Ok, "{permissions}: {finding:?}");
    }
}

#[test]
fn an_inbox_of_its_own_is_judged_by_those_of_its_peers() {
    for (prefix, permissions, level) in [
        // A peer's, its own, both.
        (
            "_INBOX_shop",
            r#"{"publish":{"allow":["_INBOX_orders.>","_R_.>"]}}"#,
            Level::Info,
        ),
        ("_INBOX_shop", r#"{"publish":{"allow":["_INBOX_shop.>"]}}"#, Level::Info),
        ("shop.in", r#"{"publish":{"allow":["shop.in.>","_R_.>"]}}"#, Level::Info),
        // None, here or at all.
        ("_INBOX_shop", r#"{"publish":{"allow":["_R_.>"]}}"#, Level::Info),
        ("_INBOX_shop", r#"{"publish":{"allow":["a"]}}"#, Level::Wrong),
        // Where it has another form, its peers' may have too, and any pattern can be theirs.
        ("shop.in", r#"{"publish":{"allow":["orders.in.>"]}}"#, Level::Warning),
        (
            "_INBOX_shop",
            r#"{"publish":{"allow":["_INBOX.>","_R_.>"]}}"#,
            Level::Ok,
        ),
    ] {
        let finding = responses_of(prefix, permissions);
        assert_eq!(finding.level, level, "{permissions}: {finding:?}");
        let fix = finding.fix.unwrap_or_default();
        assert_eq!(fix.is_empty(), level == Level::Ok, "{permissions}");
        assert!(!fix.contains("\"_INBOX.>\""), "{permissions}: {fix}");
    }
}

#[test]
fn what_mends_it_is_said() {
    let fix = |permissions| responses(permissions).fix.unwrap();
    assert!(fix(r#"{"publish":{"allow":["a"]}}"#).contains(r#"["_INBOX.>", "_R_.>"]"#));
    assert!(fix(r#"{"publish":{"allow":["_INBOX.>"]}}"#).contains(r#"allow: ["_R_.>"]"#));
    assert!(fix(r#"{"publish":{"deny":["_INBOX.>"]}}"#).contains(r#"without "_INBOX.>""#));
    assert!(fix(r#"{"publish":{"allow":["a"]},"responses":{"max":3,"ttl":1}}"#).contains("max: -1"));
}

#[test]
fn a_user_needs_one_role_only() {
    let roles = |permissions: &str| {
        let abilities = restricted(permissions).abilities(INBOX_PREFIX, Some("svc.a"));
        let findings = abilities.findings(Some("svc.a"));
        (abilities.may_call(), findings[1].level, findings[2].level)
    };
    let inbox = r#""subscribe":{"allow":["_INBOX.>"]}"#;
    assert_eq!(
        roles(&format!(r#"{{"publish":{{"allow":["svc.>"]}},{inbox}}}"#)),
        (true, Level::Ok, Level::Info)
    );
    assert_eq!(
        roles(r#"{"publish":{"allow":["x"]},"subscribe":{"allow":["svc.a q"]}}"#),
        (false, Level::Info, Level::Ok)
    );
    assert_eq!(
        roles(&format!(r#"{{"publish":{{"deny":["svc.>"]}},{inbox}}}"#)),
        (false, Level::Wrong, Level::Wrong)
    );
}

#[test]
fn what_was_tried_out_is_less_certain() {
    let tried = |inboxes, mapped| Abilities {
        prefix: INBOX_PREFIX.to_owned(),
        inboxes,
        some_inboxes: Vec::new(),
        mapped,
        responses: None,
        is_known: false,
        subject: None,
    };
    for (inboxes, mapped, level) in [
        (Verdict::Allowed, Verdict::Allowed, Level::Ok),
        (Verdict::Allowed, Verdict::NotListed, Level::Info),
        (Verdict::NotListed, Verdict::NotListed, Level::Warning),
        (Verdict::Unknown, Verdict::Allowed, Level::Warning),
    ] {
        let abilities = tried(inboxes, mapped);
        assert_eq!(abilities.findings(Some("a"))[0].level, level, "{abilities:?}");
        assert!(abilities.may_call());
    }
}
