//! The responder's half of a stream, in whichever dialect.

use stream_proto::{
    Answer, CloseReason, DecodeError, Instant, Message, Open, Outbound, OutboundConfig, OutboundEvent, OutboundStats,
    PlainDialect, PlainOutbound, PushError, Status, Transmit,
};

/// A machine of the wire protocol. The plain ones are boxed: most streams are native, and idle ones are many.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is what most streams are")]
pub(crate) enum Machine {
    Native(Outbound),
    Plain(Box<PlainOutbound>),
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
    pub(crate) fn native(open: &Open, config: &OutboundConfig, now: Instant) -> Self {
        Self::Native(Outbound::new(natstream_connect::random_u32(), open, config, now))
    }

    pub(crate) fn plain(dialect: PlainDialect, config: &OutboundConfig, max_message: usize) -> Self {
        Self::Plain(Box::new(PlainOutbound::new(dialect, config, max_message)))
    }

    /// The stream id and what goes into the answer's header, where there are any.
    pub(crate) fn answer(&self) -> Option<(u32, Answer)> {
        match self {
            Self::Native(outbound) => Some((outbound.sid(), outbound.answer())),
            Self::Plain(_) => None,
        }
    }

    pub(crate) fn push(&mut self, item: &[u8]) -> Result<(), PushError> {
        both!(self, machine => machine.push(item))
    }

    pub(crate) fn wait_for_room(&mut self, now: Instant) {
        match self {
            Self::Native(outbound) => outbound.wait_for_credit(now),
            Self::Plain(plain) => plain.wait_for_room(),
        }
    }

    /// Nothing waits for more items.
    pub(crate) fn flush(&mut self) {
        if let Self::Native(outbound) = self {
            outbound.flush();
        }
    }

    pub(crate) fn finish(&mut self, status: Status) {
        both!(self, machine => machine.finish(status));
    }

    pub(crate) fn abort(&mut self, status: Status, reason: CloseReason) {
        both!(self, machine => machine.abort(status, reason));
    }

    pub(crate) fn give_up(&mut self, reason: CloseReason) {
        both!(self, machine => machine.give_up(reason));
    }

    /// Somebody says that the caller has left; only a plain stream believes it.
    pub(crate) fn handle_left(&mut self) {
        if let Self::Plain(plain) = self {
            plain.handle_left();
        }
    }

    pub(crate) fn handle(&mut self, now: Instant, message: &Message<'_>) -> Result<(), DecodeError> {
        match self {
            Self::Native(outbound) => outbound.handle(now, message),
            Self::Plain(plain) => {
                plain.handle(now, message);
                Ok(())
            }
        }
    }

    pub(crate) fn handle_disconnected(&mut self, now: Instant) {
        both!(self, machine => machine.handle_disconnected(now));
    }

    pub(crate) fn handle_reconnected(&mut self, now: Instant) {
        match self {
            Self::Native(outbound) => outbound.handle_reconnected(now),
            Self::Plain(plain) => plain.handle_reconnected(),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        both!(self, machine => machine.handle_timeout(now));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        both!(self, machine => machine.poll_timeout())
    }

    pub(crate) fn wants_transmit(&self) -> bool {
        both!(self, machine => machine.wants_transmit())
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        both!(self, machine => machine.poll_transmit(now))
    }

    pub(crate) fn poll_event(&mut self) -> Option<OutboundEvent> {
        both!(self, machine => machine.poll_event())
    }

    pub(crate) fn has_begun(&self) -> bool {
        both!(self, machine => machine.has_begun())
    }

    pub(crate) fn max_item(&self) -> u64 {
        both!(self, machine => machine.max_item())
    }

    pub(crate) fn end(&self) -> Option<&Status> {
        both!(self, machine => machine.end())
    }

    /// Why the stream ended before its handler ended it, if it did.
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        both!(self, machine => machine.closed())
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        both!(self, machine => machine.is_forgotten())
    }

    /// Was the end handed out, and everything before it?
    pub(crate) fn is_end_sent(&self) -> bool {
        match self {
            Self::Native(outbound) => outbound.is_end_sent(),
            Self::Plain(plain) => plain.is_forgotten(),
        }
    }

    /// Is only the caller's confirmation of the end missing?
    pub(crate) fn awaits_close(&self) -> bool {
        match self {
            Self::Native(outbound) => outbound.awaits_close(),
            Self::Plain(_) => false,
        }
    }

    /// Bytes kept for sending again.
    pub(crate) fn kept(&self) -> u64 {
        match self {
            Self::Native(outbound) => outbound.kept(),
            Self::Plain(_) => 0,
        }
    }

    /// A message could not be sent at all. True when the stream says so itself, by its end.
    pub(crate) fn fail_unsent(&mut self, status: Status) -> bool {
        match self {
            Self::Native(outbound) if outbound.has_control() => false,
            Self::Native(outbound) => {
                let is_open = outbound.closed().is_none() && !outbound.is_forgotten();
                outbound.abort(status, CloseReason::Local);
                is_open
            }
            Self::Plain(plain) => plain.fail_unsent(status),
        }
    }

    /// Would a caller not notice what is lost with the connection?
    pub(crate) fn hides_losses(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    pub(crate) fn stats(&self) -> OutboundStats {
        both!(self, machine => machine.stats())
    }
}
