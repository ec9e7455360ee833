//! The subjects of a stream.

use async_nats::subject::Subject;
use parking_lot::Mutex;

/// What a stream takes. A batch goes to one stream: an event for another one would be lost to it, and the batch with it.
#[derive(Debug)]
pub(crate) struct Subjects {
    stream: String,
    patterns: Vec<String>,
    /// The last subject that was fine: most events have the same as the one before.
    last: Mutex<Subject>,
}

impl Subjects {
    pub(crate) fn new(stream: &str, patterns: Vec<String>) -> Self {
        Self {
            stream: stream.to_owned(),
            patterns,
            last: Mutex::new(Subject::from_static("")),
        }
    }

    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    pub(crate) fn take(&self, subject: &Subject) -> bool {
        let mut last = self.last.lock();
        if *last == *subject {
            return true;
        }
        let is_taken = self.patterns.iter().any(|pattern| matches(pattern, subject));
        if is_taken {
            *last = subject.clone();
        }
        is_taken
    }
}

fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some(expected), Some(token)) if expected == "*" || expected == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_match_as_in_nats_server() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "c.b", true),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }
}
