//! What a subject may look like.

/// Why a subject cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// It has a blank, a control character or a byte outside ASCII's printable range at this place.
    #[error("a subject has a blank or a character that cannot be printed at byte {0}")]
    Character(usize),
    /// It is empty.
    #[error("a subject is empty")]
    Empty,
    /// Two dots in a row, or a dot at an end.
    #[error("a subject has an empty token")]
    EmptyToken,
    /// It is longer than 3072 bytes: with the rest of the line, that is what nats-server takes (`max_control_line`) before it
    /// closes the connection.
    #[error("a subject is longer than 3072 bytes")]
    TooLong,
    /// `*` or `>` where one subject is meant, or not as a token of their own.
    #[error("a subject has a wildcard where none is allowed")]
    Wildcard,
}

/// A line of nats-server has 4096 bytes unless it is told otherwise; a reply subject and sizes have to fit, too.
const LONGEST: usize = 3072;

/// Checks a subject that messages are sent to: no blank, no empty token, no wildcard.
///
/// Letters outside ASCII are allowed, as in NATS.
///
/// # Errors
/// [`SubjectError`].
pub fn check_publish_subject(subject: &str) -> Result<(), SubjectError> {
    check(subject)?;
    if subject.split('.').any(|token| token == "*" || token == ">") {
        return Err(SubjectError::Wildcard);
    }
    Ok(())
}

/// Checks a subject that is subscribed: `*` is a token of its own, `>` the last one.
///
/// # Errors
/// [`SubjectError`].
pub fn check_subscribe_subject(subject: &str) -> Result<(), SubjectError> {
    check(subject)?;
    let mut tokens = subject.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token == ">" && tokens.peek().is_some() {
            return Err(SubjectError::Wildcard);
        }
    }
    Ok(())
}

/// Does `subject` match `pattern`, which may have wildcards?
#[must_use]
pub fn subject_matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for expected in pattern.split('.') {
        match (expected, tokens.next()) {
            (">", Some(_)) => return true,
            (expected, Some(token)) if expected == "*" || expected == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Checks the name of a queue group: not empty, no blank.
///
/// # Errors
/// [`SubjectError`].
pub fn check_queue_group(group: &str) -> Result<(), SubjectError> {
    check_characters(group)
}

fn check(subject: &str) -> Result<(), SubjectError> {
    check_characters(subject)?;
    if subject.split('.').any(str::is_empty) {
        return Err(SubjectError::EmptyToken);
    }
    Ok(())
}

fn check_characters(text: &str) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    if text.len() > LONGEST {
        return Err(SubjectError::TooLong);
    }
    match text.char_indices().find(|(_, c)| c.is_whitespace() || c.is_control()) {
        Some((at, _)) => Err(SubjectError::Character(at)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_matches_token_by_token() {
        for (pattern, subject) in [
            ("a.b", "a.b"),
            ("a.*", "a.b"),
            ("a.>", "a.b.c"),
            (">", "a"),
            ("*.b.>", "a.b.c"),
        ] {
            assert!(subject_matches(pattern, subject), "{pattern} {subject}");
        }
        for (pattern, subject) in [
            ("a.b", "a.bc"),
            ("a.*", "a.b.c"),
            ("a.>", "a"),
            ("a.b", "a"),
            ("a", "a.b"),
        ] {
            assert!(!subject_matches(pattern, subject), "{pattern} {subject}");
        }
    }

    #[test]
    fn subjects_to_publish_to() {
        assert_eq!(check_publish_subject("orders.new"), Ok(()));
        assert_eq!(check_publish_subject(&"x".repeat(3072)), Ok(()));
        assert_eq!(check_publish_subject(&"x".repeat(3073)), Err(SubjectError::TooLong));
        assert_eq!(check_publish_subject("bestellungen.für.ü"), Ok(()));
        assert_eq!(
            check_publish_subject("a*b.c>"),
            Ok(()),
            "a wildcard is a token of its own"
        );
        for (subject, error) in [
            ("", SubjectError::Empty),
            ("a b", SubjectError::Character(1)),
            ("a\r\n", SubjectError::Character(1)),
            ("a\0b", SubjectError::Character(1)),
            (".a", SubjectError::EmptyToken),
            ("a..b", SubjectError::EmptyToken),
            ("a.", SubjectError::EmptyToken),
            ("a.*", SubjectError::Wildcard),
            ("a.>", SubjectError::Wildcard),
        ] {
            assert_eq!(check_publish_subject(subject), Err(error), "{subject:?}");
        }
    }

    #[test]
    fn subjects_to_subscribe_to() {
        for subject in ["a.*.c", "a.>", ">", "*"] {
            assert_eq!(check_subscribe_subject(subject), Ok(()), "{subject}");
        }
        assert_eq!(check_subscribe_subject("a.>.b"), Err(SubjectError::Wildcard));
    }
}
