//! Subjects that the peer chose (rules 5 and 6).

/// Longest subject that is taken from a peer, in bytes.
pub const MAX_SUBJECT: usize = 255;

/// Prefix of a reply subject that an account import has rewritten.
pub const MAPPED_PREFIX: &str = "_R_.";

/// Prefix of ordinary inboxes.
pub const INBOX_PREFIX: &str = "_INBOX";

/// May a message be sent to this subject, which the peer chose?
///
/// Only printable ASCII of at most [`MAX_SUBJECT`] bytes without wildcard, blank or empty token, and only below
/// `_INBOX`, `_R_.` or one of `prefixes`; never below `$`. An empty message to a subject such as
/// `$JS.API.STREAM.DELETE.X` would act with *our* permissions.
#[must_use]
pub fn is_safe_reply(subject: &str, prefixes: &[impl AsRef<str>]) -> bool {
    if subject.is_empty() || subject.len() > MAX_SUBJECT || subject.starts_with('$') {
        return false;
    }
    let well_formed = subject.split('.').all(|token| {
        !token.is_empty()
            && token
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>'))
    });
    well_formed
        && (subject.starts_with(INBOX_PREFIX)
            || is_mapped(subject)
            || prefixes
                .iter()
                .map(AsRef::as_ref)
                .any(|prefix: &str| !prefix.is_empty() && subject.starts_with(prefix)))
}

/// Was this reply subject rewritten by an account import (rule 5)?
#[must_use]
pub fn is_mapped(subject: &str) -> bool {
    subject.starts_with(MAPPED_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inboxes_mapped_subjects_and_configured_prefixes_are_safe() {
        let prefixes = ["MYBOX."];
        for good in ["_INBOX.a.b", "_INBOX_app.x", "_R_.Ab3.x", "MYBOX.1"] {
            assert!(is_safe_reply(good, &prefixes), "{good}");
        }
        let long = alloc::format!("_INBOX.{}", "a".repeat(MAX_SUBJECT));
        for bad in [
            "",
            "orders.reset",
            "$JS.API.STREAM.DELETE.X",
            "_INBOX..a",
            "_INBOX.a.",
            "_INBOX.*",
            "_INBOX.>",
            "_INBOX.a b",
            "_INBOX.\u{e9}",
            "_INBOX.a\r\nPUB x",
            &long,
        ] {
            assert!(!is_safe_reply(bad, &prefixes), "{bad}");
        }
    }
}
