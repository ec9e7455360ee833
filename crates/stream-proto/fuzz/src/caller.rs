//! The caller's half, and what must hold for it whatever arrives.

use bytes::Bytes;
use stream_proto::{
    Budget, ControlUse, Frame, INITIAL_WINDOW, Inbound, InboundConfig, InboundEvent, Instant, MAX_UNIT, MIN_WINDOW,
    Message, Open, Termination, Transmit, UNIT_COST,
};

use crate::input::Input;

/// The largest window that a configuration can ask for.
const MAX_WINDOW: u64 = 1 << 30;

/// More messages or clocks in a row than this do not end.
const ENDLESS: usize = 1000;

/// An [`Inbound`] that is looked at after each call.
#[derive(Debug)]
pub(crate) struct Caller {
    inbound: Inbound,
    window: u64,
    budget: Option<Budget>,
    assembly: Option<Budget>,
    /// Items handed out.
    pub(crate) delivered: u64,
    pub(crate) is_cancelled: bool,
    is_connected: bool,
    /// Nothing of the configuration ends the stream before its time.
    pub(crate) is_patient: bool,
    /// The verdict, and how many items had arrived then.
    verdict: Option<(Termination, u64)>,
    close_was_sent: bool,
    locked: u32,
    terminated: u32,
    limit: u64,
    next: u64,
}

impl Caller {
    pub(crate) fn new(input: &mut Input<'_>, now: Instant) -> Self {
        let mut config = InboundConfig::default();
        if input.flag() {
            config.max_window = input.number();
        }
        if input.flag() {
            config.max_item = input.number();
        }
        config.heartbeat = input.duration();
        config.first_item_timeout = input.timeout();
        config.idle_timeout = input.timeout();
        config.deadline = input.timeout();
        config.budget = input.flag().then(|| Budget::new(input.number()));
        config.assembly_budget = input.flag().then(|| Budget::new(input.number()));
        if input.one_in(4) {
            config.outage_limit = input.duration();
        }
        let clocks = [config.first_item_timeout, config.idle_timeout, config.deadline];
        let is_patient = clocks == [None; 3] && config.assembly_budget.is_none();
        let (budget, assembly) = (config.budget.clone(), config.assembly_budget.clone());
        let window = config.max_window.clamp(MIN_WINDOW, MAX_WINDOW);
        let inbound = Inbound::new(config, now);
        let limit = inbound.open().limit;
        assert!((MIN_WINDOW..=INITIAL_WINDOW).contains(&limit), "an Open with {limit}");
        Self {
            inbound,
            window,
            budget,
            assembly,
            delivered: 0,
            is_cancelled: false,
            is_connected: true,
            is_patient,
            verdict: None,
            close_was_sent: false,
            locked: 0,
            terminated: 0,
            limit,
            next: 0,
        }
    }

    pub(crate) fn open(&self) -> Open {
        self.inbound.open()
    }

    pub(crate) fn verdict(&self) -> Option<&Termination> {
        self.inbound.termination()
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.inbound.is_locked()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected
    }

    pub(crate) fn buffered(&self) -> u64 {
        self.inbound.buffered()
    }

    /// Whole items that have arrived.
    pub(crate) fn items(&self) -> u64 {
        self.inbound.stats().items
    }

    pub(crate) fn wants_transmit(&self) -> bool {
        self.inbound.wants_transmit()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.inbound.poll_timeout()
    }

    pub(crate) fn handle(&mut self, now: Instant, message: &Message<'_>) -> ControlUse {
        let was_over = self.verdict.is_some();
        let control = self.inbound.handle(now, message);
        if control != ControlUse::Ignore {
            assert!(message.has_control, "{control:?} of a subject that is not there");
        }
        assert!(!was_over || control != ControlUse::Use, "used after the verdict");
        self.check();
        control
    }

    pub(crate) fn poll_item(&mut self, now: Instant) -> Option<Bytes> {
        let item = self.inbound.poll_item(now);
        self.count(usize::from(item.is_some()));
        item
    }

    /// The items of one unit.
    pub(crate) fn poll_items(&mut self, now: Instant) -> Option<Vec<Bytes>> {
        let items: Option<Vec<Bytes>> = self.inbound.poll_items(now).map(Iterator::collect);
        assert!(
            items.as_ref().is_none_or(|items| !items.is_empty()),
            "items without one"
        );
        self.count(items.as_ref().map_or(0, Vec::len));
        items
    }

    pub(crate) fn pause_waiting(&mut self, now: Instant) {
        self.inbound.pause_waiting(now);
        self.check();
    }

    pub(crate) fn cancel(&mut self) {
        self.inbound.cancel();
        self.is_cancelled = true;
        self.check();
        assert!(self.verdict.is_some(), "cancelled without a verdict");
    }

    pub(crate) fn handle_closed(&mut self) {
        self.inbound.handle_closed();
        self.check();
        assert!(self.verdict.is_some(), "closed without a verdict");
    }

    pub(crate) fn set_connected(&mut self, now: Instant, is_connected: bool) {
        if is_connected == self.is_connected {
            return;
        }
        self.is_connected = is_connected;
        if is_connected {
            self.inbound.handle_reconnected(now);
        } else {
            self.inbound.handle_disconnected(now);
        }
        self.check();
    }

    /// Calls `handle_timeout` as long as it is due, and once in any case.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..ENDLESS {
            self.inbound.handle_timeout(now);
            self.check();
            if self.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
        }
        panic!("a clock of the caller stands still at {now:?}");
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let is_wanted = self.wants_transmit();
        let transmit = self.inbound.poll_transmit(now);
        assert_eq!(transmit.is_some(), is_wanted, "wanted, and what came");
        if let Some(transmit) = &transmit {
            self.check_sent(transmit);
        }
        self.check();
        transmit
    }

    /// Everything that is to be sent now.
    pub(crate) fn transmit_all(&mut self, now: Instant) -> Vec<Transmit> {
        let all: Vec<Transmit> = std::iter::from_fn(|| self.poll_transmit(now)).take(ENDLESS).collect();
        assert!(all.len() < ENDLESS, "the caller never stops sending");
        all
    }

    /// What happened; each thing once.
    pub(crate) fn take_events(&mut self) {
        for count in 0.. {
            assert!(count <= 3, "events without end");
            match self.inbound.poll_event() {
                None => return,
                Some(InboundEvent::Locked) => self.locked += 1,
                Some(InboundEvent::Terminated) => self.terminated += 1,
                Some(_) => {}
            }
            assert!(self.locked <= 1 && self.terminated <= 1, "an event came twice");
            assert!(self.locked == 0 || self.is_locked());
            assert!(self.terminated == 0 || self.verdict.is_some());
        }
    }

    /// The user reads everything, and drops the machine.
    pub(crate) fn finish(mut self, now: Instant) {
        while self.poll_item(now).is_some() {}
        if !self.is_cancelled {
            assert_eq!(self.delivered, self.items(), "items handed out, and items received");
        }
        drop(self.inbound);
        for budget in [self.budget, self.assembly].into_iter().flatten() {
            assert_eq!(budget.used(), 0, "bytes of a budget are lost");
        }
    }

    fn count(&mut self, items: usize) {
        self.delivered += items as u64;
        assert!(self.delivered <= self.items(), "more handed out than received");
        assert!(items == 0 || !self.is_cancelled, "an item after the call was cancelled");
        self.check();
    }

    fn check_sent(&mut self, transmit: &Transmit) {
        let frame = Frame::decode(&transmit.payload).expect("what a machine hands out can be read");
        assert!(!self.close_was_sent, "{frame:?} follows the CLOSE");
        match frame {
            Frame::Close { .. } => {
                assert!(self.verdict.is_some(), "closed without a verdict");
                self.close_was_sent = true;
            }
            Frame::State { next, limit, .. } => {
                assert!(self.verdict.is_none(), "a STATE after the verdict");
                assert!(next >= self.next && limit >= self.limit, "a STATE takes something back");
                assert!(limit <= next + self.window, "more is granted than the window");
                (self.next, self.limit) = (next, limit);
            }
            other => panic!("not a caller's message: {other:?}"),
        }
    }

    fn check(&mut self) {
        let buffered = self.buffered();
        let allowed = self.window + MAX_UNIT as u64 + UNIT_COST;
        assert!(buffered <= allowed, "the caller buffers {buffered} of {allowed} bytes");
        match (&self.verdict, self.inbound.termination()) {
            (None, None) => {}
            (None, Some(verdict)) => {
                let items = self.items();
                if let Termination::Ended { items: said, .. } | Termination::Lost { items: said, .. } = verdict {
                    assert_eq!(*said, items, "{verdict:?}");
                }
                self.verdict = Some((verdict.clone(), items));
            }
            (Some((verdict, items)), now) => {
                assert_eq!(Some(verdict), now, "the verdict has changed");
                assert_eq!(*items, self.items(), "an item arrived after the verdict");
                assert_eq!(self.poll_timeout(), None, "a clock runs after the verdict");
            }
        }
    }
}
