//! What a consumer says instead of a message.

use async_nats::HeaderMap;

/// What a status means to a pull consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// nats-server knows the request, and has no message for it.
    Heartbeat,
    /// The request is over; so many of its messages were not delivered, as far as nats-server says.
    Over { undelivered: Option<usize> },
    /// The request was refused, and may be taken later: too many others, another client is pinned, what nobody knows yet.
    Refused,
    /// The request asks for more than the consumer gives at once.
    BatchTooLarge { most: usize },
    /// The request waits longer than the consumer lets it.
    ExpiryTooLong,
    /// Nobody has heard the request: a leader is being elected, or the consumer or its stream is not there.
    NoResponders,
    /// All requests are over: another server leads the consumer, or the one that did goes down.
    Moved,
    /// The consumer was deleted.
    Deleted,
    /// It pushes, and cannot be asked.
    NotPull,
    /// nats-server cannot read the request.
    BadRequest,
}

impl Status {
    pub(crate) fn read(code: u16, description: &str, headers: Option<&HeaderMap>) -> Self {
        // The words are all that tells one 409 from another; clients of every language compare them without case.
        let description = description.to_ascii_lowercase();
        let has = |words: &str| description.contains(words);
        let undelivered = headers
            .and_then(|headers| headers.get("Nats-Pending-Messages"))
            .and_then(|count| count.as_str().parse().ok());
        match code {
            100 => Self::Heartbeat,
            400 => Self::BadRequest,
            404 | 408 => Self::Over { undelivered },
            409 if has("consumer deleted") => Self::Deleted,
            409 if has("push based") => Self::NotPull,
            409 if has("leadership change") || has("server shutdown") => Self::Moved,
            409 if has("exceeded maxrequestbatch") => match last_number(&description) {
                Some(most) if most > 0 => Self::BatchTooLarge { most },
                _ => Self::Refused,
            },
            409 if has("exceeded maxrequestexpires") => Self::ExpiryTooLong,
            409 if undelivered.is_some() || has("batch completed") || has("exceeds maxbytes") => {
                Self::Over { undelivered }
            }
            503 => Self::NoResponders,
            _ => Self::Refused,
        }
    }
}

fn last_number(text: &str) -> Option<usize> {
    text.split_ascii_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statuses_are_understood() {
        let over = |undelivered| Status::Over { undelivered };
        for (code, description, status) in [
            (100, "Idle Heartbeat", Status::Heartbeat),
            (400, "Bad Request", Status::BadRequest),
            (404, "No Messages", over(None)),
            (408, "Request Timeout", over(None)),
            (408, "Requests Pending", over(None)),
            (409, "Batch Completed", over(None)),
            (409, "Message Size Exceeds MaxBytes", over(None)),
            (409, "Consumer Deleted", Status::Deleted),
            (409, "Consumer is push based", Status::NotPull),
            (409, "Leadership Change", Status::Moved),
            (409, "Server Shutdown", Status::Moved),
            (409, "Exceeded MaxWaiting", Status::Refused),
            (
                409,
                "Exceeded MaxRequestBatch of 100",
                Status::BatchTooLarge { most: 100 },
            ),
            (409, "Exceeded MaxRequestBatch of 0", Status::Refused),
            (409, "Exceeded MaxRequestExpires of 1s", Status::ExpiryTooLong),
            (423, "Nats-Wrong-Pin-Id", Status::Refused),
            (503, "", Status::NoResponders),
            (999, "?", Status::Refused),
        ] {
            assert_eq!(Status::read(code, description, None), status, "{code} {description}");
        }
    }

    #[test]
    fn what_was_not_delivered_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Pending-Messages", "12");
        let status = Status::read(408, "Request Timeout", Some(&headers));
        assert_eq!(status, Status::Over { undelivered: Some(12) });
        headers.insert("Nats-Pending-Messages", "-1");
        let status = Status::read(408, "Request Timeout", Some(&headers));
        assert_eq!(status, Status::Over { undelivered: None });
    }

    proptest! {
        #[test]
        fn nothing_from_the_network_panics(code in any::<u16>(), description in "\\PC{0,60}") {
            let _ = Status::read(code, &description, None);
        }
    }
}
