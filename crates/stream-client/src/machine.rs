//! The caller's half of one attempt, in whichever dialect.

use std::mem;

use stream_proto::{
    ControlUse, Denied, Inbound, InboundConfig, InboundEvent, InboundStats, Instant, Items, Message, PlainDialect,
    PlainInbound, Termination, Transmit,
};

use crate::responses::Guarantee;

/// A machine of the wire protocol. The plain ones are boxed: most calls are native, and idle ones are many.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is what most streams are")]
pub(crate) enum Machine {
    Native(Inbound),
    Plain(Box<PlainInbound>),
}

/// Does the same with both machines.
macro_rules! both {
    ($self:expr, $machine:ident => $do:expr) => {
        match $self {
            Self::Native($machine) => $do,
            Self::Plain($machine) => $do,
        }
    };
}

impl Machine {
    /// A call in a dialect that was chosen beforehand.
    pub(crate) fn plain(dialect: PlainDialect, config: &InboundConfig, now: Instant) -> Self {
        Self::Plain(Box::new(PlainInbound::new(dialect, config, now)))
    }

    /// Takes a message; `dialect` is what a responder speaks that is not native, where that is allowed for.
    pub(crate) fn handle(&mut self, now: Instant, message: &Message<'_>, dialect: Option<PlainDialect>) -> ControlUse {
        match (&mut *self, dialect) {
            (Self::Plain(plain), _) => plain.handle(now, message),
            (Self::Native(inbound), dialect) => match (inbound.handle(now, message), dialect) {
                (ControlUse::Plain, Some(dialect)) => {
                    // The old one has nothing that is missed: it has accepted nothing yet.
                    let spent = Self::plain(dialect, &InboundConfig::default(), now);
                    if let Self::Native(inbound) = mem::replace(self, spent) {
                        let mut plain = inbound.into_plain(dialect, now);
                        plain.handle(now, message);
                        *self = Self::Plain(Box::new(plain));
                    }
                }
                (control, _) => return control,
            },
        }
        ControlUse::Ignore
    }

    /// async-nats has dropped messages. The native dialect finds out by itself.
    pub(crate) fn handle_overflow(&mut self) {
        if let Self::Plain(plain) = self {
            plain.handle_overflow();
        }
    }

    pub(crate) fn handle_denied(&mut self, denied: Denied) {
        both!(self, machine => machine.handle_denied(denied));
    }

    pub(crate) fn handle_disconnected(&mut self, now: Instant) {
        both!(self, machine => machine.handle_disconnected(now));
    }

    pub(crate) fn handle_reconnected(&mut self, now: Instant) {
        // A plain call has ended with its connection.
        if let Self::Native(inbound) = self {
            inbound.handle_reconnected(now);
        }
    }

    pub(crate) fn handle_closed(&mut self) {
        both!(self, machine => machine.handle_closed());
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        both!(self, machine => machine.handle_timeout(now));
    }

    pub(crate) fn cancel(&mut self) {
        both!(self, machine => machine.cancel());
    }

    pub(crate) fn pause_waiting(&mut self, now: Instant) {
        both!(self, machine => machine.pause_waiting(now));
    }

    pub(crate) fn poll_items(&mut self, now: Instant) -> Option<Items> {
        both!(self, machine => machine.poll_items(now))
    }

    pub(crate) fn poll_event(&mut self) -> Option<InboundEvent> {
        both!(self, machine => machine.poll_event())
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        both!(self, machine => machine.poll_timeout())
    }

    pub(crate) fn termination(&self) -> Option<&Termination> {
        both!(self, machine => machine.termination())
    }

    pub(crate) fn stats(&self) -> InboundStats {
        both!(self, machine => machine.stats())
    }

    /// Would [`poll_transmit`](Self::poll_transmit) hand out a message?
    pub(crate) fn wants_transmit(&self) -> bool {
        match self {
            Self::Native(inbound) => inbound.wants_transmit(),
            Self::Plain(_) => false,
        }
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        match self {
            Self::Native(inbound) => inbound.poll_transmit(now),
            Self::Plain(_) => None,
        }
    }

    /// Has the message arrived that carries the responder's own headers?
    pub(crate) fn has_begun(&self) -> bool {
        match self {
            Self::Native(inbound) => inbound.has_unit(),
            Self::Plain(plain) => plain.has_item(),
        }
    }

    /// Has the responder shown itself?
    pub(crate) fn is_answered(&self) -> bool {
        match self {
            Self::Native(inbound) => inbound.is_locked(),
            Self::Plain(plain) => plain.has_item(),
        }
    }

    /// What a successful end proves, as far as the dialect is known.
    pub(crate) fn guarantee(&self) -> Guarantee {
        match self {
            Self::Native(inbound) => match (inbound.may_be_plain(), inbound.has_control()) {
                (true, _) => Guarantee::Plain,
                (false, true) => Guarantee::Complete,
                (false, false) => Guarantee::Detected,
            },
            Self::Plain(_) => Guarantee::Plain,
        }
    }
}
