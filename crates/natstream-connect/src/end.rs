//! When a lost connection is given up, and why one has ended.

use parking_lot::Mutex;

/// Why a connection has ended for good; from [`Connection::end_reason`](crate::Connection::end_reason).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The client of async-nats came to its end by itself: somebody drained it, or its runtime is gone. A foreign client may
    /// also have run out of attempts.
    #[error("the client of the connection was drained, or its runtime has ended")]
    ClientEnded,
    /// [`Connection::close`](crate::Connection::close) was called.
    #[error("the connection was closed")]
    Closed,
    /// After the connection was lost, the server refused the credentials, or they could not be read, so many times in a row;
    /// see [`ConnectConfig::max_refusals`](crate::ConnectConfig::max_refusals).
    #[error("the credentials were refused {attempts} times in a row: {reason}")]
    CredentialsRefused {
        /// How often.
        attempts: usize,
        /// The last refusal: the words of the server, or what is wrong with a file. It holds no secret.
        reason: String,
    },
    /// After the connection was lost, so many attempts failed; see
    /// [`ConnectConfig::max_reconnects`](crate::ConnectConfig::max_reconnects).
    #[error("the connection was lost, and {attempts} attempts to connect again failed")]
    ReconnectsExhausted {
        /// How many.
        attempts: usize,
    },
}

impl EndReason {
    /// Is it this crate that has given up, whatever async-nats still does?
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self, Self::CredentialsRefused { .. } | Self::ReconnectsExhausted { .. })
    }
}

/// How long a lost connection is tried for. It counts for itself: async-nats does not count what servers refuse, and takes a
/// limit of 0 for none.
#[derive(Debug)]
pub(crate) struct Patience {
    max_reconnects: Option<usize>,
    max_refusals: Option<usize>,
    /// Are credentials that cannot be produced as good as refused ones? Not those of a callback, whose vault may be shut for
    /// a while.
    own_failures_count: bool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// The connection that was lost.
    epoch: u64,
    /// Attempts since.
    attempts: usize,
    /// Those of them that ended with a refusal of the credentials.
    refusals: usize,
}

impl Patience {
    pub(crate) fn new(max_reconnects: Option<usize>, max_refusals: Option<usize>, own_failures_count: bool) -> Self {
        Self {
            max_reconnects,
            max_refusals,
            own_failures_count,
            counts: Mutex::default(),
        }
    }

    /// May there be another attempt after connection `epoch` was lost? `last_error` is what became of the attempt before, in
    /// async-nats' words.
    pub(crate) fn allows_attempt(&self, epoch: u64, last_error: Option<&str>) -> Result<(), EndReason> {
        let mut counts = self.counts.lock();
        if counts.epoch != epoch {
            *counts = Counts {
                epoch,
                ..Counts::default()
            };
        } else if let Some(reason) = last_error.and_then(|text| refusal(text, self.own_failures_count)) {
            // A server that cannot be reached in between proves nothing about the credentials.
            counts.refusals += 1;
            if self.max_refusals.is_some_and(|max| counts.refusals >= max) {
                return Err(EndReason::CredentialsRefused {
                    attempts: counts.refusals,
                    reason: reason.to_owned(),
                });
            }
        }
        if self.max_reconnects.is_some_and(|max| counts.attempts >= max) {
            return Err(EndReason::ReconnectsExhausted {
                attempts: counts.attempts,
            });
        }
        counts.attempts += 1;
        Ok(())
    }

    /// Have the credentials been refused since the connection was lost?
    pub(crate) fn is_refused(&self) -> bool {
        self.counts.lock().refusals > 0
    }
}

/// The reason in the text of an async-nats connect error, if it is about the credentials: there is no other form of it once
/// the connection task has taken over.
fn refusal(error: &str, own_failures_count: bool) -> Option<&str> {
    if error.starts_with("authorization violation") {
        return Some("authorization violation");
    }
    if let Some(own) = error.strip_prefix("failed signing nonce: ") {
        let own = own
            .strip_prefix("AuthError(")
            .and_then(|own| own.strip_suffix(')'))
            .unwrap_or(own);
        return own_failures_count.then_some(own);
    }
    let words = error.strip_prefix("IO error: nats: ")?;
    let lower = words.to_ascii_lowercase();
    // "user authentication expired", "user authentication revoked", "account authentication expired". An "authentication
    // timeout" says that somebody was slow.
    (lower.contains("authentication") && !lower.contains("timeout")).then_some(words)
}

#[cfg(test)]
mod tests {
    use async_nats::{AuthError, ConnectError, ConnectErrorKind, ServerError};

    use super::*;

    fn texts(own: bool, error: ConnectError) -> Option<String> {
        refusal(&error.to_string(), own).map(str::to_owned)
    }

    /// With the errors that async-nats 0.51 makes.
    #[test]
    fn refusals_are_told_from_other_errors() {
        let io = |text: &str| ConnectError::with_source(ConnectErrorKind::Io, ServerError::Other(text.to_owned()));
        let violation = ConnectError::with_source(
            ConnectErrorKind::AuthorizationViolation,
            ServerError::AuthorizationViolation,
        );
        assert_eq!(texts(true, violation).as_deref(), Some("authorization violation"));
        let own = || ConnectError::with_source(ConnectErrorKind::Authentication, AuthError::new("no file"));
        assert_eq!(texts(true, own()).as_deref(), Some("no file"));
        assert_eq!(texts(false, own()), None);
        for (text, is_refusal) in [
            ("User Authentication Expired", true),
            ("User Authentication Revoked", true),
            ("Account Authentication Expired", true),
            ("Authentication Timeout", false),
            ("maximum connections exceeded", false),
        ] {
            assert_eq!(texts(true, io(text)).is_some(), is_refusal, "{text}");
        }
        assert_eq!(texts(true, ConnectError::new(ConnectErrorKind::TimedOut)), None);
    }

    #[test]
    fn refusals_in_a_row_end_the_patience() {
        let patience = Patience::new(None, Some(3), true);
        let refused = Some("authorization violation: nats: authorization violation");
        patience.allows_attempt(1, None).unwrap();
        assert!(!patience.is_refused());
        patience.allows_attempt(1, refused).unwrap();
        assert!(patience.is_refused());
        patience
            .allows_attempt(1, Some("IO error: connection refused"))
            .unwrap();
        patience.allows_attempt(1, refused).unwrap();
        // It is connected again, and lost again; what failed last was long ago.
        patience.allows_attempt(2, refused).unwrap();
        assert!(!patience.is_refused());
        patience.allows_attempt(2, refused).unwrap();
        patience.allows_attempt(2, refused).unwrap();
        let reason = patience.allows_attempt(2, refused).unwrap_err();
        assert_eq!(
            reason,
            EndReason::CredentialsRefused {
                attempts: 3,
                reason: "authorization violation".to_owned()
            }
        );
        assert!(reason.is_given_up() && !EndReason::Closed.is_given_up());
    }

    #[test]
    fn attempts_end_the_patience() {
        for max in [0, 2] {
            let patience = Patience::new(Some(max), None, true);
            for epoch in [1, 2] {
                for _ in 0..max {
                    patience.allows_attempt(epoch, None).unwrap();
                }
                let reason = patience.allows_attempt(epoch, None).unwrap_err();
                assert_eq!(reason, EndReason::ReconnectsExhausted { attempts: max });
            }
        }
    }
}
