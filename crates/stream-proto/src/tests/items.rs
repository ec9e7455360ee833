//! How items become units and items again (rules 12 to 15).

use alloc::vec;

use super::pair::Pair;
use super::*;
use crate::{Code, MAX_DETAILS, MAX_MESSAGE, MAX_UNIT, MIN_UNIT, PushError};

const TARGET: usize = 8 * 1024;
const ALONE: usize = 4 * 1024;

fn with_unit(max_unit: usize) -> OutboundConfig {
    OutboundConfig {
        max_unit,
        ..OutboundConfig::default()
    }
}

fn wide() -> Open {
    Open {
        limit: 1 << 40,
        ..open()
    }
}

/// The units of a stream of `items` that is not held up by credit, and those that carry the end.
fn units_of(max_unit: usize, items: &[usize]) -> Vec<Unit> {
    let mut outbound = confirmed(wide(), &with_unit(max_unit), 1 << 40);
    let mut units = Vec::new();
    let mut fetch = |outbound: &mut Outbound| {
        for sent in drain(outbound, at(1)) {
            assert!(sent.transmit.payload.len() <= max_unit.clamp(MIN_UNIT, MAX_UNIT));
            units.push(sent.unit().clone());
        }
    };
    for &len in items {
        outbound.push(&vec![3; len]).expect("room");
        fetch(&mut outbound);
        if let Some(end) = outbound.poll_timeout() {
            assert!(end > at(1));
        }
    }
    outbound.finish(Status::ok());
    fetch(&mut outbound);
    units
}

#[test]
fn small_items_share_units_of_at_most_8_kib() {
    let units = units_of(MAX_UNIT, &[100; 1000]);
    assert!(units.len() <= 14, "{} units for 102 KB", units.len());
    assert!(units.iter().all(|unit| unit.data.len() <= TARGET));
}

#[test]
fn a_full_unit_leaves_without_a_flush() {
    let mut outbound = confirmed(wide(), &OutboundConfig::default(), 1 << 40);
    let header = 6 + 1 + 2;
    // Two items that fill the 8 KiB exactly.
    let half = (TARGET - header) / 2;
    outbound.push(&vec![1; half - 2]).expect("room");
    assert!(drain(&mut outbound, at(1)).is_empty());
    outbound.push(&vec![1; TARGET - header - half - 2]).expect("room");
    let sent = drain(&mut outbound, at(1));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].transmit.payload.len(), TARGET);
}

#[test]
fn an_item_of_4_kib_travels_alone_and_a_smaller_one_does_not() {
    let data =
        |items: &[usize]| -> Vec<usize> { units_of(MAX_UNIT, items).iter().map(|unit| unit.data.len()).collect() };
    assert_eq!(data(&[10, ALONE, 10]), [11, ALONE + 2, 11]);
    assert_eq!(data(&[10, ALONE - 1, 10]), [11 + ALONE + 1 + 11]);
    assert_eq!(data(&[10, ALONE - 2, 10]), [11 + ALONE + 11]);
}

#[test]
fn an_item_that_fits_into_an_empty_unit_is_not_split() {
    // The position of the unit takes two bytes.
    let header = 7 + 2;
    for max_unit in [MIN_UNIT, MIN_UNIT + 1, 200, 1000, 5000, TARGET, 20_000, MAX_UNIT] {
        for len in max_unit - header - 8..max_unit {
            let fits = header + varint::len(len as u64) + len <= max_unit;
            let mut outbound = confirmed(wide(), &with_unit(max_unit), 1 << 40);
            outbound.push(&vec![1; len]).expect("room");
            outbound.flush();
            let units = drain(&mut outbound, at(1)).len();
            assert_eq!(
                units,
                if fits { 1 } else { 2 },
                "{max_unit} bytes a unit, {len} an item"
            );
        }
    }
}

#[test]
fn no_message_is_longer_than_the_largest_unit_whatever_the_items_and_positions() {
    for max_unit in [0, MIN_UNIT, MIN_UNIT + 1, 150, 300, 4096, 4103, TARGET, TARGET + 3] {
        let max = max_unit.max(MIN_UNIT);
        for len in (max.saturating_sub(24)..max + 2).chain([0, 1, 63, 64, 65]) {
            let items = vec![len; 90];
            let units = units_of(max_unit, &items);
            let mut position = units[0].position;
            for unit in &units {
                assert_eq!(unit.position, position, "units follow each other");
                position = unit.end();
            }
        }
    }
}

#[test]
fn positions_count_data_and_256_a_unit_but_not_the_status() {
    // Data of many lengths before the end, so that the end moves to a unit of its own at many positions.
    for max_unit in [MIN_UNIT, 300, 16_400] {
        for fill in 0..max_unit.min(500) {
            let mut outbound = outbound(wide(), &with_unit(max_unit));
            outbound.push(&vec![1; fill]).expect("room");
            outbound.finish(Status::new(Code::Internal, "x".repeat(60)));
            let sent = drain(&mut outbound, at(0));
            let mut position = 0;
            for sent in &sent {
                let unit = sent.unit();
                assert_eq!(unit.position, position);
                assert!(sent.transmit.payload.len() <= max_unit);
                position = unit.end();
            }
            assert!(sent.last().is_some_and(Sent::is_fin), "with {fill} bytes of data");
            // The responder counts the same: an acknowledgement of all is understood.
            give(&mut outbound, at(1), state(position, 1 << 40));
            assert_eq!(
                (outbound.kept(), outbound.stats().ignored),
                (0, 0),
                "with {fill} bytes of data"
            );
        }
    }
}

#[test]
fn a_full_status_moves_behind_data_that_leaves_no_room_for_it() {
    let status = Status {
        details: Bytes::from(vec![1; MAX_DETAILS]),
        ..Status::new(Code::Internal, "x".repeat(MAX_MESSAGE))
    };
    for (data, units) in [(100, 1), (3500, 1), (60_000, 2)] {
        let mut outbound = outbound(wide(), &OutboundConfig::default());
        outbound.push(&vec![1; data]).expect("room");
        outbound.finish(status.clone());
        let sent = drain(&mut outbound, at(0));
        assert_eq!(sent.len(), units, "{data} bytes of data");
        let fin = sent.last().and_then(|sent| sent.unit().fin.clone());
        assert_eq!(fin, Some((status.clone(), 1)));
    }
}

#[test]
fn a_status_that_no_unit_can_hold_is_cut() {
    let status = Status {
        details: Bytes::from(vec![1; 100]),
        retry_after: Some(Duration::MAX),
        ..Status::new(Code::Internal, "x".repeat(MAX_MESSAGE))
    };
    let mut outbound = outbound(wide(), &with_unit(MIN_UNIT));
    outbound.push(&[1; 100]).expect("room");
    outbound.finish(status);
    let sent = drain(&mut outbound, at(0));
    assert!(sent.iter().all(|sent| sent.transmit.payload.len() <= MIN_UNIT));
    let (cut, _) = sent.last().and_then(|sent| sent.unit().fin.clone()).expect("an end");
    assert_eq!(cut.code, Code::Internal);
    assert!(!cut.message.is_empty() && cut.details.is_empty());
}

#[test]
fn empty_items_are_items() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.answer_with((0..10_000).map(|_| Vec::new()));
    assert!(pair.drive().is_ok());
    assert_eq!(pair.reader.items.len(), 10_000);
}

#[test]
fn items_of_every_awkward_length_arrive_whole() {
    let lengths = [
        0, 1, 63, 64, 4093, 4094, 4095, 4096, 4097, 8179, 8180, 8192, 16_383, 16_384, 65_520, 65_525, 65_526, 65_527,
        65_528, 65_536, 131_072, 200_000, 0, 5,
    ];
    for yields in [false, true] {
        let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
        pair.handler.yields = yields;
        pair.answer_with(lengths.iter().enumerate().map(|(index, &len)| vec![index as u8; len]));
        assert!(pair.drive().is_ok());
        assert_eq!(pair.reader.items.len(), lengths.len());
    }
}

#[test]
fn an_item_of_the_largest_size_arrives_and_a_larger_one_is_not_taken() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    let max = outbound.max_item() as usize;
    assert_eq!(
        outbound.push(&vec![0; max + 1]),
        Err(PushError::TooLarge {
            size: max as u64 + 1,
            max: max as u64
        })
    );
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.answer_with([vec![1; max], vec![2; 3]]);
    assert!(pair.drive().is_ok());
    assert_eq!(pair.reader.items[0].len(), max);
}

#[test]
fn items_of_one_unit_share_its_buffer() {
    let (mut inbound, _) = locked(InboundConfig::default(), &[b"one", b"two"]);
    let items = read_all(&mut inbound, at(30));
    assert_eq!(items[0].as_ptr() as usize + 4, items[1].as_ptr() as usize);
}
