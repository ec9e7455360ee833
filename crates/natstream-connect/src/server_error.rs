//! What the server complains about (`-ERR`), with the complaints that name a subject taken apart.

use std::fmt;

/// A complaint of the server, from [`Connection::server_errors`](crate::Connection::server_errors).
///
/// Subscribing and publishing without permission succeed as far as async-nats can tell; this is the
/// only place where the refusal shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerErrorEvent {
    /// Anything else, in the server's words.
    Other {
        /// The text of the `-ERR`.
        text: String,
    },
    /// This user may not do that.
    PermissionViolation {
        /// What was refused.
        operation: Operation,
        /// The subject that was refused.
        subject: String,
        /// The queue group of a refused subscription.
        queue_group: Option<String>,
    },
}

/// What a [`PermissionViolation`](ServerErrorEvent::PermissionViolation) refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Publishing to the subject.
    Publish,
    /// Publishing with the subject as reply.
    PublishReply,
    /// Subscribing to the subject.
    Subscribe,
}

impl ServerErrorEvent {
    pub(crate) fn parse(text: &str) -> Self {
        permission_violation(text).unwrap_or_else(|| Self::Other { text: text.to_owned() })
    }
}

impl fmt::Display for ServerErrorEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other { text } => f.write_str(text),
            Self::PermissionViolation {
                operation,
                subject,
                queue_group,
            } => {
                let what = match operation {
                    Operation::Publish => "publish to",
                    Operation::PublishReply => "publish with the reply",
                    Operation::Subscribe => "subscribe to",
                };
                write!(f, "no permission to {what} `{subject}`")?;
                match queue_group {
                    Some(queue_group) => write!(f, " in the queue group `{queue_group}`"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// nats-server 2.15 says `Permissions Violation for Publish to "x"`, `… for Publish with Reply of
/// "x"`, `… for Subscription to "x"` and `… for Subscription to "x" using queue "q"`, quoting as
/// Go's `%q` does. When it takes a subscription back, ` (sid "1")` follows.
fn permission_violation(text: &str) -> Option<ServerErrorEvent> {
    let rest = strip(text, "permissions violation for ")?;
    let (operation, rest) = [
        ("publish to ", Operation::Publish),
        ("publish with reply of ", Operation::PublishReply),
        ("subscription to ", Operation::Subscribe),
    ]
    .into_iter()
    .find_map(|(words, operation)| Some((operation, strip(rest, words)?)))?;
    let (subject, rest) = unquote(rest)?;
    let queue_group = match strip(rest, " using queue ") {
        Some(queue) => Some(unquote(queue)?.0),
        None if rest.is_empty() || strip(rest, " (sid ").is_some() => None,
        None => return None,
    };
    Some(ServerErrorEvent::PermissionViolation {
        operation,
        subject,
        queue_group,
    })
}

/// `text` without `prefix`, whatever its case.
fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// A text quoted by Go's `%q`, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut unquoted = String::new();
    loop {
        match chars.next()? {
            '"' => return Some((unquoted, chars.as_str())),
            '\\' => unquoted.push(unescape(&mut chars)?),
            other => unquoted.push(other),
        }
    }
}

/// The character of an escape whose backslash has been read.
fn unescape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = match chars.next()? {
        'a' => return Some('\x07'),
        'b' => return Some('\x08'),
        'f' => return Some('\x0c'),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'v' => return Some('\x0b'),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        other => return Some(other),
    };
    let mut code = 0;
    for _ in 0..digits {
        code = code * 16 + chars.next()?.to_digit(16)?;
    }
    match (digits, code) {
        // Go writes a byte that is not UTF-8 so; there is no character for it.
        (2, 0x80..) => Some(char::REPLACEMENT_CHARACTER),
        _ => char::from_u32(code),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn violation(operation: Operation, subject: &str, queue_group: Option<&str>) -> ServerErrorEvent {
        ServerErrorEvent::PermissionViolation {
            operation,
            subject: subject.to_owned(),
            queue_group: queue_group.map(str::to_owned),
        }
    }

    #[test]
    fn permission_violations_are_taken_apart() {
        for (text, expected) in [
            (
                r#"Permissions Violation for Publish to "orders.new""#,
                violation(Operation::Publish, "orders.new", None),
            ),
            (
                r#"permissions violation for publish to "a""#,
                violation(Operation::Publish, "a", None),
            ),
            (
                r#"Permissions Violation for Publish with Reply of "_INBOX.1""#,
                violation(Operation::PublishReply, "_INBOX.1", None),
            ),
            (
                r#"Permissions Violation for Subscription to "svc.>""#,
                violation(Operation::Subscribe, "svc.>", None),
            ),
            (
                r#"Permissions Violation for Subscription to "svc.>" using queue "q""#,
                violation(Operation::Subscribe, "svc.>", Some("q")),
            ),
            (
                r#"Permissions Violation for Subscription to "svc.>" (sid "12")"#,
                violation(Operation::Subscribe, "svc.>", None),
            ),
            (
                r#"Permissions Violation for Subscription to "svc.>" using queue "q" (sid "12")"#,
                violation(Operation::Subscribe, "svc.>", Some("q")),
            ),
            (
                r#"Permissions Violation for Publish to "a\"b\\c\u00e9\x01\n\xff""#,
                violation(Operation::Publish, "a\"b\\cé\u{1}\n\u{fffd}", None),
            ),
        ] {
            assert_eq!(ServerErrorEvent::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn everything_else_stays_text() {
        for text in [
            "",
            "Stale Connection",
            "Permissions Violation",
            "Permissions Violation for Publish to",
            "Permissions Violation for Publish to orders",
            r#"Permissions Violation for Publish to "orders"#,
            r#"Permissions Violation for Publish to "a\"#,
            r#"Permissions Violation for Publish to "\u12"#,
            r#"Permissions Violation for Subscription to "a" using "q""#,
            "Pérmissions",
        ] {
            assert_eq!(
                ServerErrorEvent::parse(text),
                ServerErrorEvent::Other { text: text.to_owned() }
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}", inside in ".{0,40}") {
            ServerErrorEvent::parse(&text);
            ServerErrorEvent::parse(&format!("Permissions Violation for Publish to \"{inside}"));
        }
    }
}
