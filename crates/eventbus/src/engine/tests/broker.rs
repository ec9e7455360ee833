//! nats-server and its stream, as far as a publisher can tell.

use std::collections::HashMap;

use crate::reply::Refusal;

/// What the stream says to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Stored {
        sequence: u64,
        is_duplicate: bool,
    },
    Refused(Refusal),
    /// None: it is stored, or not, and nobody is told.
    Nothing,
}

/// How the stream is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// No leader.
    NoResponders,
    /// Its queue is full: 429.
    Busy,
    /// It loses what comes.
    Deaf,
    /// It stores what comes, and its acks are lost.
    Mute,
    /// It refuses for good.
    Full,
}

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) subject: String,
    /// What the event carried: its number.
    pub(super) number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) stored: Vec<Stored>,
    ids: HashMap<String, u64>,
}

impl Broker {
    pub(super) fn publish(&mut self, mood: Mood, subject: &str, number: u64, id: Option<String>) -> Answer {
        let refused = |code, err_code, description: &str| {
            Answer::Refused(Refusal {
                code,
                err_code,
                description: description.to_owned(),
            })
        };
        match mood {
            Mood::NoResponders => return Answer::Refused(Refusal::no_responders()),
            Mood::Busy => return refused(429, 10167, "too many requests"),
            Mood::Deaf => return Answer::Nothing,
            Mood::Well | Mood::Mute | Mood::Full => {}
        }
        let known = id.as_ref().and_then(|id| self.ids.get(id)).copied();
        let answer = match known {
            Some(sequence) => Answer::Stored {
                sequence,
                is_duplicate: true,
            },
            None if mood == Mood::Full => return refused(503, 10077, "maximum messages exceeded"),
            None => {
                self.stored.push(Stored {
                    subject: subject.to_owned(),
                    number,
                });
                let sequence = self.stored.len() as u64;
                if let Some(id) = id {
                    self.ids.insert(id, sequence);
                }
                Answer::Stored {
                    sequence,
                    is_duplicate: false,
                }
            }
        };
        if mood == Mood::Mute { Answer::Nothing } else { answer }
    }
}
