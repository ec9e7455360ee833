//! Messages that were fetched together, to be acked by whoever fetched them.

use std::sync::Arc;
use std::time::Duration;

use natstream_connect::{Subscriber, random_u32};

use super::consumer::Inner;
use super::engine::{Admission, End, Plan, PullConfig, PullEvent, Pulls};
use super::error::{ConsumeError, ConsumeErrorKind};
use super::link::Link;
use super::message::Message;
use super::status::Status;
use super::word::Word;
use crate::nanos;

/// Messages that were fetched, in the order in which they came.
///
/// Those that are not acked when their ack wait is over come again, here or elsewhere; so do those of a batch that is dropped.
/// nats-server hears nothing of a batch that is held longer, unless [`in_progress`](Self::in_progress) is called;
/// [`Consumer::for_each_batch`](crate::Consumer::for_each_batch) does so by itself.
#[must_use = "messages that are not acked come again"]
pub struct Batch {
    inner: Arc<Inner>,
    link: Arc<Link>,
    messages: Vec<Message>,
}

impl Batch {
    /// The messages that were not acked or given back yet.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The same, one after the other. `for message in &batch` does so too.
    pub fn iter(&self) -> std::slice::Iter<'_, Message> {
        self.messages.iter()
    }

    /// Acks all, and waits until nats-server has confirmed it.
    ///
    /// # Errors
    /// [`Unconfirmed`](ConsumeErrorKind::Unconfirmed): some may come again.
    ///
    /// # Cancel safety
    /// Dropped early, acks are sent or not; those that were not come again.
    pub async fn ack(mut self) -> Result<(), ConsumeError> {
        self.ack_through(u64::MAX).await
    }

    /// Acks those up to this number of the stream, and waits until nats-server has confirmed it. They leave the batch.
    ///
    /// # Errors
    /// [`Unconfirmed`](ConsumeErrorKind::Unconfirmed): some may come again. They have left the batch too.
    ///
    /// # Cancel safety
    /// Dropped early, acks are sent or not; those that were not come again.
    pub async fn ack_through(&mut self, sequence: u64) -> Result<(), ConsumeError> {
        let done = self.messages.extract_if(.., |message| message.sequence() <= sequence);
        let done: Vec<Message> = done.collect();
        ack(&self.inner, &done).await
    }

    /// The messages, and where words about them go: whoever has them acks them.
    pub(super) fn into_parts(self) -> (Arc<Link>, Vec<Message>) {
        (self.link, self.messages)
    }

    /// Gives all back, to be delivered again after this pause, of which half is random.
    pub fn nak(self, pause: Duration) {
        let whole = nanos(pause).max(1);
        for message in &self.messages {
            let pause = whole / 2 + u64::from(random_u32()) % (whole / 2 + 1);
            self.link.say(message.reply(), &Word::Nak { pause });
        }
    }

    /// Tells nats-server that all are being handled: their ack wait begins anew.
    pub fn in_progress(&self) {
        for message in &self.messages {
            self.link.say(message.reply(), &Word::InProgress);
        }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a Message;
    type IntoIter = std::slice::Iter<'a, Message>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}

/// Where a fetch has asked and listened, for the next one: it takes a round trip, and more, to be sure of a subscription.
pub(super) struct Line {
    link: Arc<Link>,
    subscriber: Subscriber,
}

impl Line {
    async fn open(inner: &Inner) -> Result<Self, ConsumeError> {
        let link = Link::new(inner.connection.connection(), inner.spec.stream(), inner.spec.name());
        Ok(Self {
            subscriber: link.subscribe().await?,
            link: Arc::new(link),
        })
    }
}

/// Acks messages, and waits until nats-server has confirmed it.
pub(super) async fn ack(inner: &Inner, messages: &[Message]) -> Result<(), ConsumeError> {
    let replies = messages.iter().map(|message| message.reply().clone());
    inner.acks.confirm(replies, &Word::Ack).await
}

/// What came of asking.
pub(super) struct Fetched {
    pub(super) batch: Batch,
    /// Nobody heard a request: the consumer may not be there.
    pub(super) was_unheard: bool,
}

/// Asks for so many messages, and takes what comes in this time.
pub(super) async fn fetch(inner: &Arc<Inner>, count: usize, within: Duration) -> Result<Fetched, ConsumeError> {
    let connection = inner.connection.connection().clone();
    let driver = connection.driver();
    let now = || driver.nanos(driver.now());
    let mut state = connection.state();
    let mut seen = *state.borrow_and_update();
    // It is taken out: two fetches at a time have a line each, and one that is dropped leaves none with messages to come.
    let kept = inner.line.lock().take();
    let Line { link, mut subscriber } = match kept {
        Some(line) => line,
        None => Line::open(inner).await?,
    };
    let began = now();
    let config = PullConfig {
        slots: count,
        most: usize::MAX,
        bytes: None,
        expires: nanos(inner.settings.expires),
        heartbeat: nanos(inner.settings.heartbeat),
        first_pause: 50_000_000,
        longest_pause: 2_000_000_000,
        plan: Plan::Fetch {
            count,
            until: began.saturating_add(nanos(within)),
        },
        seed: u64::from(random_u32()),
    };
    let mut pulls = Pulls::new(config, began);
    if !seen.is_connected() {
        pulls.handle_disconnect();
    }
    let mut messages = Vec::new();
    let (mut is_over, mut was_unheard) = (false, false);
    let end = loop {
        let at = now();
        // First the request: one that does not wait may be late already.
        while let Some(request) = pulls.poll_request(at) {
            if !link.ask(&request) {
                pulls.handle_status(at, request.number, &Status::Refused);
            }
        }
        pulls.handle_timeout(at);
        while let Some(event) = pulls.poll_event() {
            match event {
                PullEvent::Gone => return Err(ConsumeError::new(ConsumeErrorKind::NotFound)),
                PullEvent::Look => was_unheard = true,
                PullEvent::Silent | PullEvent::Refused => {}
            }
        }
        if let Some(end) = pulls.end() {
            break end;
        }
        let due = pulls.poll_timeout().unwrap_or(at).saturating_sub(at);
        tokio::select! {
            biased;
            _ = state.changed() => {
                let now_is = *state.borrow_and_update();
                match (now_is.is_connected(), now_is.epoch == seen.epoch && seen.is_connected()) {
                    (true, true) => {}
                    (true, false) => pulls.handle_connect(now()),
                    (false, _) => pulls.handle_disconnect(),
                }
                seen = now_is;
            }
            message = subscriber.next() => {
                let Some(message) = message else {
                    return Err(ConsumeError::new(ConsumeErrorKind::Closed));
                };
                let at = now();
                is_over |= take(&link, &mut pulls, &mut messages, at, message);
                while pulls.end().is_none()
                    && let Some(message) = subscriber.try_next()
                {
                    is_over |= take(&link, &mut pulls, &mut messages, at, message);
                }
            }
            () = tokio::time::sleep(Duration::from_nanos(due)) => {}
        }
    };
    match end {
        End::Fetched => {
            // Nothing more can come: there was one request, and all of it is here, or nats-server has said that it is over.
            if pulls.counts().requests == 1 && (messages.len() == count || is_over) {
                let link = link.clone();
                *inner.line.lock() = Some(Line { link, subscriber });
            }
            Ok(Fetched {
                batch: Batch {
                    inner: inner.clone(),
                    link,
                    messages,
                },
                was_unheard,
            })
        }
        End::NotPull => Err(ConsumeError::new(ConsumeErrorKind::NotPull)),
        End::BadRequest => Err(ConsumeError::new(ConsumeErrorKind::Rejected)),
    }
}

/// Is the request over?
fn take(
    link: &Link,
    pulls: &mut Pulls,
    messages: &mut Vec<Message>,
    at: u64,
    mut message: async_nats::Message,
) -> bool {
    match Message::take(&mut message) {
        Some(message) => match pulls.handle_message(at) {
            Admission::Held => messages.push(message),
            Admission::Surplus => link.say(message.reply(), &Word::Nak { pause: 1 }),
        },
        None => {
            if let Some((number, status)) = link.status(&message) {
                pulls.handle_status(at, number, &status);
                return matches!(status, Status::Over { .. });
            }
        }
    }
    false
}
