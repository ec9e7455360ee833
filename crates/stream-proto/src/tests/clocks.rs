//! The deadline of a call and the clocks of its user (rule 57).

use core::time::Duration;

use super::pair::{Pair, Side};
use super::*;
use crate::Offer;
use crate::{Clock, CloseReason, Code, Termination};

#[test]
fn the_deadline_is_kept_by_both_sides() {
    let config = InboundConfig {
        deadline: Some(Duration::from_secs(7)),
        ..InboundConfig::default()
    };
    let mut pair = Pair::new(config, &OutboundConfig::default());
    let start = pair.now;
    // The caller's own word does not get through: the responder notices by itself.
    pair.link.lose = alloc::boxed::Box::new(|frame| matches!(frame, Frame::Close { .. }));
    pair.drive_for(Duration::from_secs(8));
    assert_eq!(
        pair.inbound.termination(),
        Some(&Termination::TimedOut(Clock::Deadline))
    );
    assert_eq!(pair.outbound.closed(), Some(CloseReason::Deadline));
    let ends = pair.logged(
        Side::Responder,
        |frame| matches!(frame, Frame::Unit(unit) if unit.fin.is_some()),
    );
    assert_eq!(ends[0].at.saturating_since(start), Duration::from_secs(7));
    let Frame::Unit(unit) = &ends[0].frame else {
        unreachable!()
    };
    assert_eq!(
        unit.fin.as_ref().map(|(status, _)| status.code),
        Some(Code::DeadlineExceeded)
    );
}

#[test]
fn the_verdict_on_a_passed_deadline_does_not_depend_on_whose_clock_was_first() {
    let config = InboundConfig {
        deadline: Some(Duration::from_micros(999_500)),
        ..InboundConfig::default()
    };
    let mut pair = Pair::new(config, &OutboundConfig::default());
    // The header says no less than the caller's clock, in whole milliseconds.
    let offer = Open::parse(&pair.inbound.open().encode());
    assert!(
        matches!(offer, Ok(Offer::Supported(Open { deadline: Some(deadline), .. })) if deadline == Duration::from_secs(1))
    );
    let end = Status::new(Code::DeadlineExceeded, "");
    pair.outbound.finish(end.clone());
    let now = pair.now + Duration::from_secs(1);
    let transmit = pair.outbound.poll_transmit(now).expect("the end");
    let header = pair.outbound.answer().encode();
    let message = Message {
        header: Some(&header),
        has_headers: true,
        payload: transmit.payload,
        ..Message::default()
    };
    // The message is looked at before the timer, which is due as well.
    pair.inbound.handle(now, &message);
    assert_eq!(
        pair.inbound.termination(),
        Some(&Termination::TimedOut(Clock::Deadline))
    );
    // Without a deadline of its own, or before it, these are the responder's words.
    let mut inbound = Inbound::new(InboundConfig::default(), pair.now);
    inbound.handle(now, &message);
    assert_eq!(inbound.termination(), Some(&Termination::Failed(end)));
}

#[test]
fn a_deadline_closes_with_its_own_code() {
    let config = InboundConfig {
        deadline: Some(Duration::from_secs(1)),
        ..InboundConfig::default()
    };
    let (mut inbound, _) = locked(config, &[]);
    assert_eq!(inbound.open().deadline, Some(Duration::from_secs(1)));
    let log = run_inbound(&mut inbound, at(2000));
    assert_eq!(log.last(), Some(&(at(1000), close(CloseCode::Deadline))));
}

#[test]
fn a_deadline_does_not_touch_a_stream_whose_end_was_sent() {
    let open = Open {
        deadline: Some(Duration::from_secs(1)),
        ..open()
    };
    for flushes in [false, true] {
        let mut outbound = outbound(open, &OutboundConfig::default());
        outbound.push(b"x").expect("room");
        if flushes {
            outbound.flush();
        }
        outbound.finish(Status::ok());
        drain(&mut outbound, at(0));
        run(&mut outbound, at(1500));
        assert_eq!(outbound.closed(), None);
    }
}

fn impatient() -> InboundConfig {
    InboundConfig {
        first_item_timeout: Some(Duration::from_secs(2)),
        idle_timeout: Some(Duration::from_secs(1)),
        ..InboundConfig::default()
    }
}

#[test]
fn the_clock_of_the_first_item_runs_only_while_the_user_waits() {
    let (mut inbound, next) = locked(impatient(), &[]);
    run_inbound(&mut inbound, at(10_000));
    inbound.handle(at(10_000), &plain(&beat(0, next)));
    assert_eq!(inbound.poll_item(at(10_000)), None);
    run_inbound(&mut inbound, at(11_999));
    assert_eq!(inbound.termination(), None);
    let log = run_inbound(&mut inbound, at(12_000));
    assert_eq!(inbound.termination(), Some(&Termination::TimedOut(Clock::FirstItem)));
    assert_eq!(log.last(), Some(&(at(12_000), close(CloseCode::Cancelled))));
}

#[test]
fn the_clock_between_items_starts_with_each_wait() {
    let (mut inbound, mut next) = locked(impatient(), &[b"a"]);
    assert!(inbound.poll_item(at(30)).is_some());
    run_inbound(&mut inbound, at(5000));
    for second in 5..8 {
        assert_eq!(inbound.poll_item(at(second * 1000)), None);
        assert_eq!(
            inbound.poll_item(at(second * 1000 + 500)),
            None,
            "asking again does not start it anew"
        );
        run_inbound(&mut inbound, at(second * 1000 + 900));
        inbound.handle(at(second * 1000 + 900), &plain(&unit(next, &[b"b"])));
        next = after(next, &[b"b"]);
        assert!(inbound.poll_item(at(second * 1000 + 900)).is_some());
    }
    assert_eq!(inbound.poll_item(at(8000)), None);
    run_inbound(&mut inbound, at(9000));
    assert_eq!(inbound.termination(), Some(&Termination::TimedOut(Clock::Idle)));
}

#[test]
fn no_clock_of_the_user_runs_while_something_is_buffered() {
    let (mut inbound, next) = locked(impatient(), &[]);
    assert_eq!(inbound.poll_item(at(30)), None);
    // The item is here in time; the user's task comes late.
    inbound.handle(at(1900), &plain(&unit(next, &[b"a"])));
    run_inbound(&mut inbound, at(3000));
    assert_eq!(inbound.termination(), None);
    assert!(inbound.poll_item(at(3000)).is_some());
}

#[test]
fn half_an_item_does_not_stop_the_clock_of_the_first() {
    let (mut inbound, next) = locked(impatient(), &[]);
    assert_eq!(inbound.poll_item(at(30)), None);
    inbound.handle(at(1900), &plain(&raw_unit(next, &[9, 1], None)));
    assert_eq!(inbound.poll_item(at(1900)), None);
    run_inbound(&mut inbound, at(2100));
    assert_eq!(inbound.termination(), Some(&Termination::TimedOut(Clock::FirstItem)));
}

#[test]
fn the_clock_of_the_user_stands_still_while_it_does_something_else() {
    let (mut inbound, next) = locked(impatient(), &[]);
    assert_eq!(inbound.poll_item(at(30)), None);
    inbound.pause_waiting(at(1530));
    run_inbound(&mut inbound, at(10_000));
    assert_eq!(inbound.termination(), None);
    inbound.handle(at(10_000), &plain(&beat(0, next)));
    // 1.5 s of the 2 s are used up.
    assert_eq!(inbound.poll_item(at(10_000)), None);
    run_inbound(&mut inbound, at(10_499));
    assert_eq!(inbound.termination(), None);
    run_inbound(&mut inbound, at(10_500));
    assert_eq!(inbound.termination(), Some(&Termination::TimedOut(Clock::FirstItem)));
}
