//! A subscription that nats-server has confirmed.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::intake::{Intake, connects};
use crate::overflow::Overflow;
use crate::server_error::{Operation, ServerErrorEvent};
use crate::subject::{check_queue_group, check_subscribe_subject};

/// How long nats-server may take to confirm a subscription, or its end.
const FENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the refusal of a subscription may take after nats-server has confirmed that it has processed it.
///
/// Without it one start in a hundred looked like success, where eight were under way on two cores.
const REFUSAL_GRACE: Duration = Duration::from_millis(10);

/// A subscription whose refusal and whose losses are known, and that can be left without losing a message.
///
/// async-nats reports success to whoever may not subscribe, and drops what is on its way when a subscription ends. Made by
/// [`Connection::subscribe`].
///
/// Memory: as many messages as async-nats lets wait, 65,536 unless
/// [`ConnectConfig::subscription_capacity`](crate::ConnectConfig::subscription_capacity) says otherwise.
///
/// # Drop
/// Ends the subscription; messages that are on their way are lost.
#[derive(Debug)]
#[must_use = "dropping it ends the subscription"]
pub struct Subscriber {
    subject: String,
    intake: Intake,
    refusals: broadcast::Receiver<ServerErrorEvent>,
    refusal: Option<ServerErrorEvent>,
    overflow: Arc<Overflow>,
}

impl Connection {
    /// Subscribes to `subject`, which may have wildcards, alone or in a queue group.
    ///
    /// When it returns, nats-server knows the subscription.
    ///
    /// # Errors
    /// [`NotPermitted`](SubscriberErrorKind::NotPermitted), [`Invalid`](SubscriberErrorKind::Invalid),
    /// [`Connection`](SubscriberErrorKind::Connection).
    ///
    /// # Cancel safety
    /// When the future is dropped, messages may arrive for a moment; they are lost.
    pub async fn subscribe(
        &self,
        subject: impl Into<String>,
        group: Option<&str>,
    ) -> Result<Subscriber, SubscriberError> {
        let mut subscriber = Subscriber::begin(self, self.server_errors(), subject, group).await?;
        subscriber.confirm(&[]).await?;
        Ok(subscriber)
    }
}

impl Subscriber {
    /// The first half of [`Connection::subscribe`]: hands the subscription over to the connection.
    ///
    /// `refusals`, by [`Connection::server_errors`], must have begun before anything was subscribed to that
    /// [`confirm`](Self::confirm) asks about.
    ///
    /// # Errors
    /// [`Invalid`](SubscriberErrorKind::Invalid), [`Connection`](SubscriberErrorKind::Connection).
    ///
    /// # Cancel safety
    /// As [`Connection::subscribe`].
    pub async fn begin(
        connection: &Connection,
        refusals: broadcast::Receiver<ServerErrorEvent>,
        subject: impl Into<String>,
        group: Option<&str>,
    ) -> Result<Self, SubscriberError> {
        let subject = subject.into();
        Self::check(&subject, group)?;
        let nats = connection.nats();
        let connects = connects(connection);
        let subscribe = async {
            match group {
                Some(group) => nats.queue_subscribe(subject.clone(), group.to_owned()).await,
                None => nats.subscribe(subject.clone()).await,
            }
        };
        // While the connection is down and async-nats's queue is full, subscribing would wait for ever.
        let subscriber = timeout(FENCE_TIMEOUT, subscribe).await;
        let subscriber = subscriber.map_err(|error| SubscriberError::connection(&subject, error))?;
        let subscriber = subscriber.map_err(|error| SubscriberError::connection(&subject, error))?;
        Ok(Self {
            overflow: connection.signals().overflows.watch(&subscriber),
            intake: Intake::new(subscriber, connection.clone(), connects),
            refusals,
            refusal: None,
            subject,
        })
    }

    /// The second half of [`Connection::subscribe`]: waits until nats-server knows the subscription. It is an error also when
    /// the subscription to one of `others` was refused.
    ///
    /// # Errors
    /// [`NotPermitted`](SubscriberErrorKind::NotPermitted), [`Connection`](SubscriberErrorKind::Connection).
    ///
    /// # Cancel safety
    /// A refusal that was heard before may be lost.
    pub async fn confirm(&mut self, others: &[&str]) -> Result<(), SubscriberError> {
        // `subscribe` of async-nats returns before nats-server has heard of it.
        let fence = self.intake.connection().fence(FENCE_TIMEOUT).await;
        fence.map_err(|error| SubscriberError::connection(&self.subject, error))?;
        // Subscribing without permission looks like success. The server's word has come before the fence's answer, but a task
        // of async-nats passes it on, which may not have had its turn.
        let refusal = timeout(REFUSAL_GRACE, refused(&mut self.refusals, &self.subject, others)).await;
        match refusal {
            Ok(refusal) => Err(SubscriberError::new(
                SubscriberErrorKind::NotPermitted,
                &self.subject,
                refusal.to_string(),
            )),
            Err(_) => Ok(()),
        }
    }

    /// Can this be subscribed to, in this group?
    ///
    /// # Errors
    /// [`Invalid`](SubscriberErrorKind::Invalid).
    pub fn check(subject: &str, group: Option<&str>) -> Result<(), SubscriberError> {
        let invalid = |cause: Cause| SubscriberError::new(SubscriberErrorKind::Invalid, subject, cause);
        check_subscribe_subject(subject).map_err(|error| invalid(error.into()))?;
        match group {
            Some(group) => check_queue_group(group).map_err(|error| invalid(error.into())),
            None => Ok(()),
        }
    }

    /// The subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next message. `None` when there will be none: the connection is closed, or nats-server has taken the subscription
    /// back, see [`refusal`](Self::refusal).
    ///
    /// Messages that come while the connection is down are lost: that is NATS.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Message> {
        if self.refusal.is_some() {
            return None;
        }
        tokio::select! {
            // First the complaints: of those there are few, and the oldest are forgotten while nobody reads them.
            biased;
            refusal = refused(&mut self.refusals, &self.subject, &[]) => {
                self.refusal = Some(refusal);
                None
            }
            message = self.intake.next() => message,
        }
    }

    /// A message that is here already. `None` says nothing of those to come.
    pub fn try_next(&mut self) -> Option<Message> {
        if self.refusal.is_some() {
            return None;
        }
        // An end is seen by whoever waits.
        self.intake.try_next()
    }

    /// Why nats-server has taken the subscription back: a reload of its permissions, for instance.
    #[must_use]
    pub fn refusal(&self) -> Option<&ServerErrorEvent> {
        self.refusal.as_ref()
    }

    /// Ends after this many messages, agreed on with nats-server: what is beyond them goes to others of a queue group. It is
    /// called before [`confirm`](Self::confirm).
    ///
    /// # Errors
    /// [`Connection`](SubscriberErrorKind::Connection).
    ///
    /// # Cancel safety
    /// It may be agreed on, or not.
    pub async fn take_only(&mut self, count: u64) -> Result<(), SubscriberError> {
        let agreed = timeout(FENCE_TIMEOUT, self.intake.take_only(count)).await;
        let agreed = agreed.map_err(|error| SubscriberError::connection(&self.subject, error))?;
        agreed.map_err(|error| SubscriberError::connection(&self.subject, error))
    }

    /// Counts the messages that were dropped since nobody took them.
    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses(self.overflow.clone())
    }

    /// Ends the subscription; what was sent before nats-server has heard of it still goes to `take`.
    ///
    /// It ends within 5 s: nats-server is asked to confirm the end.
    ///
    /// # Errors
    /// [`Connection`](SubscriberErrorKind::Connection): it has ended, but nats-server did not confirm it.
    ///
    /// # Cancel safety
    /// What has not been taken is lost.
    pub async fn leave(mut self, take: impl FnMut(Message)) -> Result<(), SubscriberError> {
        let leave = async {
            self.intake.leave(take).await;
            self.intake.connection().fence(FENCE_TIMEOUT).await
        };
        match timeout(FENCE_TIMEOUT, leave).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(SubscriberError::connection(&self.subject, error)),
            Err(error) => Err(SubscriberError::connection(&self.subject, error)),
        }
    }
}

/// Messages of a [`Subscriber`] that were dropped since nobody took them; it goes on counting when that has gone.
#[derive(Clone, Debug)]
pub struct Losses(Arc<Overflow>);

impl Losses {
    /// How many there were: at least so many, since async-nats may be too busy to tell of each. Always 0 on a foreign client
    /// without [`observe`](crate::observe).
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count()
    }
}

/// Completes when the server says, now or after a reconnect, that one of these subjects may not be subscribed to.
async fn refused(events: &mut broadcast::Receiver<ServerErrorEvent>, own: &str, others: &[&str]) -> ServerErrorEvent {
    loop {
        match events.recv().await {
            Ok(event) if is_refusal(&event, own, others) => return event,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn is_refusal(event: &ServerErrorEvent, own: &str, others: &[&str]) -> bool {
    match event {
        ServerErrorEvent::PermissionViolation { operation, subject, .. } => {
            *operation == Operation::Subscribe && (subject == own || others.contains(&subject.as_str()))
        }
        _ => false,
    }
}

type Cause = Box<dyn Error + Send + Sync>;

/// Why there is no subscription.
#[derive(Debug)]
pub struct SubscriberError {
    kind: SubscriberErrorKind,
    subject: String,
    cause: Cause,
}

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscriberErrorKind {
    /// The subject or the queue group cannot be.
    Invalid,
    /// nats-server does not let this user subscribe.
    NotPermitted,
    /// The connection is closed, or nats-server did not confirm in 5 s.
    Connection,
}

impl SubscriberError {
    fn new(kind: SubscriberErrorKind, subject: &str, cause: impl Into<Cause>) -> Self {
        Self {
            kind,
            subject: subject.to_owned(),
            cause: cause.into(),
        }
    }

    fn connection(subject: &str, cause: impl Into<Cause>) -> Self {
        Self::new(SubscriberErrorKind::Connection, subject, cause)
    }

    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> SubscriberErrorKind {
        self.kind
    }

    /// What was to be subscribed to.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What was wrong.
    #[must_use]
    pub fn into_cause(self) -> Box<dyn Error + Send + Sync> {
        self.cause
    }
}

impl fmt::Display for SubscriberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            SubscriberErrorKind::Invalid => "cannot be subscribed to",
            SubscriberErrorKind::NotPermitted => "may not be subscribed to",
            SubscriberErrorKind::Connection => "the subscription is not confirmed",
        };
        write!(f, "`{}`: {what}", self.subject)
    }
}

impl Error for SubscriberError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}
