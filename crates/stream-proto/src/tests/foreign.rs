//! A native call whose responder may speak a dialect of rule 65, and what rule 63 concludes.

use super::*;
use crate::{Clock, ControlUse, LostCause, PlainDialect, ProtocolError, Termination};

fn auto(dialect: PlainDialect) -> Inbound {
    let config = InboundConfig {
        plain: Some(dialect),
        ..InboundConfig::default()
    };
    Inbound::new(config, Instant::ORIGIN)
}

fn text(payload: &'static str) -> Message<'static> {
    message(Bytes::from_static(payload.as_bytes()))
}

#[test]
fn the_first_message_decides() {
    let mut inbound = auto(PlainDialect::Text);
    assert_eq!(inbound.handle(at(0), &text("item")), ControlUse::Plain);
    let mut plain = inbound.into_plain(PlainDialect::Text, at(0));
    plain.handle(at(0), &text("item"));
    assert_eq!(plain.poll_items(at(0)).map(Iterator::count), Some(1));

    let mut inbound = auto(PlainDialect::Text);
    inbound.handle(at(0), &announced(&unit(0, &[b"a"])));
    assert!(inbound.is_locked());
    assert_eq!(inbound.handle(at(0), &text("stranger")), ControlUse::Ignore);
    assert_eq!(inbound.stats().foreign_responder, 1);
}

#[test]
fn an_empty_message_decides_for_the_sentinel_only() {
    let mut inbound = auto(PlainDialect::Text);
    assert_eq!(inbound.handle(at(0), &text("")), ControlUse::Ignore);
    assert_eq!(inbound.handle(at(0), &text("two")), ControlUse::Plain);
    let mut plain = inbound.into_plain(PlainDialect::Text, at(0));
    plain.handle(at(0), &text("two"));
    let items: Vec<_> = core::iter::from_fn(|| plain.poll_items(at(0))).flatten().collect();
    assert_eq!(items, ["", "two"], "it was an item");
    assert_eq!(auto(PlainDialect::Sentinel).handle(at(0), &text("")), ControlUse::Plain);
}

#[test]
fn another_version_of_this_protocol_is_no_dialect() {
    let mut inbound = auto(PlainDialect::Text);
    let refusal = Message {
        header: Some("2,3"),
        has_headers: true,
        ..text("")
    };
    assert_eq!(inbound.handle(at(0), &refusal), ControlUse::Ignore);
    assert_eq!(
        inbound.termination(),
        Some(&Termination::Protocol(ProtocolError::ForeignAnswer))
    );
}

#[test]
fn a_slow_first_item_is_waited_for_and_silence_is_a_timeout() {
    let mut inbound = auto(PlainDialect::Text);
    inbound.handle_timeout(at(5000));
    assert_eq!(inbound.termination(), None);
    inbound.handle_timeout(at(30_000));
    assert_eq!(inbound.termination(), Some(&Termination::TimedOut(Clock::FirstItem)));
}

#[test]
fn the_deadline_goes_along() {
    let config = InboundConfig {
        plain: Some(PlainDialect::Sentinel),
        deadline: Some(Duration::from_secs(3)),
        ..InboundConfig::default()
    };
    let mut inbound = Inbound::new(config, Instant::ORIGIN);
    assert_eq!(inbound.handle(at(2000), &text("item")), ControlUse::Plain);
    let plain = inbound.into_plain(PlainDialect::Sentinel, at(2000));
    assert_eq!(plain.poll_timeout(), Some(at(3000)));
}

#[test]
fn what_may_have_been_missed_before_the_first_item_loses_the_call() {
    let mut inbound = auto(PlainDialect::Text);
    inbound.handle_disconnected(at(1));
    inbound.handle_reconnected(at(2));
    assert_eq!(inbound.handle(at(3), &text("the second item?")), ControlUse::Plain);
    let plain = inbound.into_plain(PlainDialect::Text, at(3));
    let (items, cause) = (0, LostCause::Disconnected);
    assert_eq!(plain.termination(), Some(&Termination::Lost { items, cause }));
}

/// Across accounts, unit 0 arrives and then nothing, or `more`.
fn mapped(more: Option<Frame>) -> Option<Termination> {
    let mut inbound = Inbound::new(InboundConfig::default(), Instant::ORIGIN);
    let first = Message {
        is_mapped: true,
        ..announced(&unit(0, &[b"a"]))
    };
    inbound.handle(at(0), &first);
    if let Some(frame) = more {
        inbound.handle(at(100), &plain(&frame));
    }
    run_inbound(&mut inbound, at(20_000));
    inbound.termination().cloned()
}

#[test]
fn nothing_after_the_first_message_across_accounts_is_the_export() {
    let lost = |cause| Some(Termination::Lost { items: 1, cause });
    assert_eq!(mapped(None), lost(LostCause::SingleResponse));
    assert_eq!(mapped(Some(beat(1, after(0, &[b"a"])))), lost(LostCause::Silent));
}
