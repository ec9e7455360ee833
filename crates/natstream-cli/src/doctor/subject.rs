//! How nats-server matches subjects with permissions.

/// Does `pattern` cover `subject`? Wildcards of `subject` are tokens like others, as for nats-server: `a.*` covers the
/// subscription `a.>`, and `a.b` does not cover `a.*`.
pub(super) fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for expected in pattern.split('.') {
        match (expected, tokens.next()) {
            // At least one token.
            (">", token) => return token.is_some(),
            (_, None) => return false,
            ("*", Some(_)) => {}
            (_, Some(token)) if token == expected => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_as_those_of_nats_server() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*", "a", false),
            ("*.b", "a.b", true),
            ("*", "a", true),
            (">", "a", true),
            (">", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            ("A", "a", false),
            // Wildcards in the subject, seen on nats-server 2.15.1.
            ("a.>", "a.*", true),
            ("a.*", "a.>", true),
            ("_INBOX.*", "_INBOX.>", true),
            ("_INBOX.*", "_INBOX.a.*", false),
            ("_INBOX.a.*", "_INBOX.a.>", true),
            ("_INBOX.a.*", "_INBOX.*.*", false),
        ] {
            assert_eq!(covers(pattern, subject), expected, "{pattern} {subject}");
        }
    }
}
