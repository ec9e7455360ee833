//! Peers that do not keep to the rules: each harms its own stream only.

use alloc::vec;

use super::*;
use crate::{DecodeError, Malformed, ProtocolError, Termination};

const FAR: u64 = (1 << 62) - 1;

fn protocol_error(inbound: &Inbound) -> DecodeError {
    match inbound.termination() {
        Some(Termination::Protocol(ProtocolError::Malformed(error))) => *error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn positions_at_the_end_of_the_number_line_are_gaps() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    for frame in [
        unit(FAR, &[b"x"]),
        beat(0, FAR),
        fin(FAR, &[b"x"], Status::ok(), 0),
        beat(FAR, FAR),
    ] {
        inbound.handle(at(100), &announced(&frame));
    }
    assert_eq!(
        drain_inbound(&mut inbound, at(100)),
        [rewind(next, crate::INITIAL_WINDOW)]
    );
    assert_eq!(inbound.buffered(), next);
}

#[test]
fn states_at_the_end_of_the_number_line_change_nothing() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    for frame in [state(FAR, FAR), rewind(FAR, FAR), rewind(FAR, 0), state(FAR - 1, 1)] {
        give(&mut outbound, at(1), frame);
    }
    assert!(drain(&mut outbound, at(1)).is_empty());
    let limit = OutboundConfig::default().retention;
    while outbound.push(&[0; 1000]).is_ok() {}
    assert!(outbound.kept() <= limit + 20 * KIB, "the retention still holds");
}

#[test]
fn a_malformed_message_of_the_stream_ends_it() {
    let (mut inbound, _) = locked(InboundConfig::default(), &[b"a"]);
    let mut payload = unit(700, &[b"x"]).encode().to_vec();
    payload.truncate(7);
    inbound.handle(at(30), &message(Bytes::from(payload)));
    assert_eq!(protocol_error(&inbound).what, Malformed::Truncated);
    assert_eq!(drain_inbound(&mut inbound, at(30)), [close(CloseCode::Protocol)]);
    assert_eq!(read_all(&mut inbound, at(30)).len(), 1);
}

#[test]
fn a_malformed_message_of_another_stream_is_ignored() {
    let (mut inbound, _) = locked(InboundConfig::default(), &[b"a"]);
    let mut payload = unit(700, &[b"x"]).encode().to_vec();
    payload.truncate(7);
    payload[5] ^= 1;
    inbound.handle(at(30), &message(Bytes::from(payload.clone())));
    payload.truncate(5);
    inbound.handle(at(30), &message(Bytes::from(payload)));
    assert_eq!(inbound.termination(), None);
}

#[test]
fn a_malformed_message_does_not_touch_the_responder() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let mut payload = state(0, 1).encode().to_vec();
    payload.truncate(8);
    assert!(outbound.handle(at(1), &message(Bytes::from(payload))).is_err());
    assert_eq!(outbound.stats().malformed, 1);
    assert!(outbound.is_ready());
}

#[test]
fn messages_of_the_wrong_direction_are_ignored() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    for frame in [
        state(0, 0),
        close(CloseCode::Cancelled),
        Frame::Unknown { sid: SID, kind: 0x7f },
    ] {
        inbound.handle(at(30), &plain(&frame));
    }
    assert_eq!(inbound.termination(), None);
    assert_eq!(inbound.stats().ignored, 3);

    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    for frame in [
        unit(next, &[b"x"]),
        beat(0, 0),
        Frame::Reset { sid: SID },
        Frame::Unknown { sid: SID, kind: 0x7f },
    ] {
        give(&mut outbound, at(1), frame);
    }
    assert!(outbound.is_ready());
    assert_eq!(outbound.stats().ignored, 4);
}

#[test]
fn an_announced_length_is_checked_before_anything_is_allocated() {
    let announce = |len: u64| {
        let mut data = Vec::new();
        varint::put(len, &mut data);
        data
    };
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle(at(30), &plain(&raw_unit(next, &announce((16 << 20) + 1), None)));
    assert_eq!(protocol_error(&inbound).what, Malformed::ItemTooLarge);

    let config = InboundConfig {
        max_item: u64::MAX,
        ..InboundConfig::default()
    };
    let (mut inbound, next) = locked(config, &[b"a"]);
    inbound.handle(at(30), &plain(&raw_unit(next, &announce(1 << 50), None)));
    assert_eq!(inbound.termination(), None);
    assert_eq!(read_all(&mut inbound, at(30)).len(), 1);
}

#[test]
fn a_length_that_is_split_between_units_is_malformed() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle(at(30), &plain(&raw_unit(next, &[0x41], None)));
    assert_eq!(protocol_error(&inbound).what, Malformed::Truncated);
}

#[test]
fn an_error_names_the_byte_of_the_message() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    let frame = raw_unit(next, &[1, b'x', 0x40, 0x01], None);
    inbound.handle(at(30), &plain(&frame));
    let error = protocol_error(&inbound);
    assert_eq!(error.what, Malformed::NotMinimal);
    assert_eq!(error.offset, frame.encode().len() - 2);
}

#[test]
fn units_without_data_use_up_credit_too() {
    let (mut inbound, mut next) = locked(InboundConfig::default(), &[]);
    for _ in 0..10_000 {
        inbound.handle(at(30), &plain(&unit(next, &[])));
        next += UNIT_COST;
    }
    assert!(matches!(
        inbound.termination(),
        Some(Termination::Protocol(ProtocolError::CreditExceeded { .. }))
    ));
    assert!(inbound.buffered() <= crate::INITIAL_WINDOW);
}

#[test]
fn a_unit_that_contradicts_an_earlier_one_is_dropped_like_any_repeat() {
    let (mut inbound, _) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle(at(30), &plain(&fin(0, &[b"other"], Status::ok(), 1)));
    inbound.handle(at(30), &plain(&unit(1, &[b"other"])));
    assert_eq!(inbound.termination(), None);
    assert_eq!(read_all(&mut inbound, at(30)), [&b"a"[..]]);
}

#[test]
fn a_flood_of_rewinds_is_followed_twice_a_second() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let next = after(0, &[b"first"]);
    outbound.push(&vec![1; 10_000]).expect("room");
    drain(&mut outbound, at(0));
    let mut sent = 0;
    for millis in 1..=2000 {
        give(&mut outbound, at(millis), rewind(next, 64 * KIB));
        sent += drain(&mut outbound, at(millis)).len();
    }
    assert!(sent <= 5, "{sent} repeats in 2 s");
}

#[test]
fn an_end_that_was_acknowledged_without_being_sent_still_ends() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let next = after(0, &[b"first"]);
    outbound.finish(Status::ok());
    give(&mut outbound, at(1), state(next + UNIT_COST, 64 * KIB));
    assert!(drain(&mut outbound, at(1))[0].is_fin());
    // Alive for ever, but never confirming.
    for second in 1..20 {
        run(&mut outbound, at(second * 1000));
        give(&mut outbound, at(second * 1000), state(next, 64 * KIB));
    }
    assert!(outbound.is_forgotten());
}

#[test]
fn a_state_before_the_first_unit_stops_no_clock() {
    // Only who guesses the stream id can send it.
    let mut outbound = outbound(open(), &OutboundConfig::default());
    give(&mut outbound, at(0), state(0, 1));
    outbound.push(b"x").expect("room");
    outbound.flush();
    drain(&mut outbound, at(0));
    let log = run(&mut outbound, at(9000));
    assert_eq!(times(&log, Sent::is_beat), [5000]);
}
