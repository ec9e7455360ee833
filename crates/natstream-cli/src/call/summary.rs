//! What is said about a call when it is over.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use natstream::{Clock, Guarantee, RequestError, RequestErrorKind};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::size;

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// All items arrived.
    Complete,
    /// The other side failed, or the answer did not arrive.
    Failed(RequestError),
    /// By a signal.
    Interrupted(&'static str),
    /// There were as many items as were wanted.
    MaxItems,
    /// Nobody reads standard output.
    OutputClosed,
    /// Something on this side stopped it.
    Stopped {
        /// The word for it.
        word: &'static str,
        failure: Failure,
    },
}

impl Ended {
    pub(crate) fn stopped(word: &'static str, failure: Failure) -> Self {
        Self::Stopped { word, failure }
    }

    /// May the other side be still at work?
    pub(crate) fn leaves_early(&self) -> bool {
        match self {
            Self::Complete | Self::Stopped { .. } => false,
            Self::Failed(error) => error.kind() == RequestErrorKind::Timeout,
            Self::Interrupted(_) | Self::MaxItems | Self::OutputClosed => true,
        }
    }

    /// The word for it; a stable interface.
    fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Interrupted(_) => "interrupted",
            Self::MaxItems => "max_items",
            Self::OutputClosed => "output_closed",
            Self::Stopped { word, .. } => word,
            Self::Failed(error) => match error.kind() {
                RequestErrorKind::Cancelled => "cancelled",
                RequestErrorKind::Connection => "no_connection",
                RequestErrorKind::Failed => "failed",
                RequestErrorKind::InvalidRequest => "invalid_request",
                RequestErrorKind::Lost => "lost",
                RequestErrorKind::NoResponders => "no_responders",
                RequestErrorKind::NotPermitted => "not_permitted",
                RequestErrorKind::Refused => "refused",
                RequestErrorKind::Timeout => "timeout",
                RequestErrorKind::Unanswered => "unanswered",
                _ => "protocol_error",
            },
        }
    }
}

/// The numbers of a call.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
    pub(crate) first_item: Option<Duration>,
    pub(crate) duration: Duration,
    pub(crate) guarantee: Guarantee,
    /// The first one included.
    pub(crate) attempts: u32,
    pub(crate) retransmitted: u64,
    pub(crate) reconnects: u64,
}

impl Summary {
    /// One line for people.
    pub(crate) fn text(&self, ended: &Ended) -> String {
        let first = match self.first_item {
            Some(first) => format!(", first item after {}", short(first)),
            None => String::new(),
        };
        let guarantee = match self.guarantee {
            Guarantee::Complete => "",
            Guarantee::Detected => ", a loss would be noticed",
            _ => ", a loss would not be noticed",
        };
        let attempts = match self.attempts {
            1 => String::new(),
            attempts => format!(", {attempts} attempts"),
        };
        format!(
            "{}: {} items, {} in {} ({:.0} items/s, {}/s){first}{attempts}, {} retransmitted, {} reconnects{guarantee}",
            ended.word().replace('_', " "),
            self.items,
            size::display(self.bytes as f64),
            short(self.duration),
            self.rate(self.items),
            size::display(self.rate(self.bytes)),
            self.retransmitted,
            self.reconnects,
        )
    }

    /// The same for programs.
    pub(crate) fn json(&self, ended: &Ended) -> Value {
        let millis = |duration: Duration| duration.as_micros() as f64 / 1000.0;
        let mut summary = json!({
            "items": self.items,
            "bytes": self.bytes,
            "first_item_ms": self.first_item.map(millis),
            "duration_ms": millis(self.duration),
            "items_per_second": self.rate(self.items).round(),
            "bytes_per_second": self.rate(self.bytes).round(),
            "guarantee": guarantee_word(self.guarantee),
            "attempts": self.attempts,
            "retransmitted": self.retransmitted,
            "reconnects": self.reconnects,
            "ended": ended.word(),
        });
        match ended {
            Ended::Failed(error) => {
                summary["error"] = error.to_string().into();
                if let Some(clock) = error.clock() {
                    summary["clock"] = clock_word(clock).into();
                }
                if let Some(status) = error.status() {
                    summary["code"] = status.code.to_string().into();
                    summary["message"] = status.message.as_str().into();
                    match std::str::from_utf8(&status.details) {
                        Ok("") => {}
                        Ok(details) => summary["details"] = details.into(),
                        Err(_) => summary["details_base64"] = BASE64_STANDARD.encode(&status.details).into(),
                    }
                }
            }
            Ended::Stopped { failure, .. } => {
                summary["error"] = failure.error.to_string().into();
            }
            _ => {}
        }
        summary
    }

    fn rate(&self, count: u64) -> f64 {
        match self.duration.as_secs_f64() {
            0.0 => 0.0,
            seconds => count as f64 / seconds,
        }
    }
}

/// What success proves.
fn guarantee_word(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::Complete => "complete",
        Guarantee::Detected => "detected",
        _ => "plain",
    }
}

fn clock_word(clock: Clock) -> &'static str {
    match clock {
        Clock::Connect => "connect",
        Clock::FirstItem => "first_item",
        Clock::Idle => "idle",
        _ => "deadline",
    }
}

/// `duration` with three digits or so: `812 µs`, `2.1 ms`, `1.204 s`.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.3} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            items: 200_000,
            bytes: 25_600_000,
            first_item: Some(Duration::from_micros(2_100)),
            duration: Duration::from_secs(2),
            guarantee: Guarantee::Complete,
            attempts: 1,
            retransmitted: 0,
            reconnects: 1,
        }
    }

    #[test]
    fn a_summary_is_one_line() {
        assert_eq!(
            summary().text(&Ended::MaxItems),
            "max items: 200000 items, 24.4 MiB in 2.000 s (100000 items/s, 12.2 MiB/s), first item after 2.1 ms, \
             0 retransmitted, 1 reconnects"
        );
    }

    #[test]
    fn a_summary_is_an_object() {
        let json = Summary {
            first_item: None,
            duration: Duration::ZERO,
            ..summary()
        }
        .json(&Ended::Complete);
        assert_eq!(json["ended"], "complete");
        assert_eq!(json["first_item_ms"], Value::Null);
        assert_eq!(json["items_per_second"], 0.0);
    }
}
