//! Events that nobody takes, in a spool with little room, over crashes in any call and damage.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::{fs, iter};

use stream_sinks::{CrashImage, Fault, Storage};

use super::super::{Item, Next, Spool};
use super::*;
use crate::event::Event;
use crate::outbox::ledger::Ledger;

const ROOM: u64 = 8000;

fn open(storage: impl Storage + 'static, is_durable: bool) -> Spool {
    Spool::on(Arc::new(storage), Path::new("/spool"), is_durable, ROOM).expect("open")
}

/// About 100 bytes in the files.
fn event(number: u64) -> Event {
    Event::new("s", format!("{number:040}")).message_id(number.to_string())
}

fn number(event: &Event) -> u64 {
    let payload = std::str::from_utf8(event.payload()).expect("text");
    payload.parse().expect("a number")
}

/// Everything that is to be delivered, by its number in the ledger: what was set aside, and what is in the log.
fn records(spool: &Spool) -> Vec<(u64, u64)> {
    let mut all = spool.found_aside();
    let mut reader = None;
    loop {
        match spool.next() {
            Next::Event(number, event) => all.push_back((number, Ok(event))),
            Next::OnDisk(from) => {
                let loaded = spool.load(from, reader.take()).expect("read");
                reader = loaded.reader;
                all.extend(loaded.records);
            }
            Next::Nothing => break,
        }
    }
    let numbers = all.into_iter();
    numbers
        .map(|(key, event)| (key, number(&event.expect("an event"))))
        .collect()
}

/// The numbers of what was set aside, and of what is in the log.
fn found(spool: &Spool) -> (Vec<u64>, Vec<u64>) {
    let (aside, log): (Vec<_>, Vec<_>) = records(spool).into_iter().partition(|(key, _)| key & ASIDE != 0);
    let numbers = |records: Vec<(u64, u64)>| records.into_iter().map(|(_, number)| number).collect();
    (numbers(aside), numbers(log))
}

/// Delivers everything: gives what there was.
fn deliver(spool: &Spool) -> Vec<u64> {
    let mut ledger = Ledger::new(spool.found().first, spool.numbers_aside());
    let records = records(spool);
    for (key, _) in &records {
        ledger.hand_over(*key);
    }
    for (key, _) in &records {
        assert!(!ledger.is_done_below(spool.next_number()));
        ledger.finish(*key);
    }
    assert!(ledger.is_done_below(spool.next_number()) && ledger.left() == 0);
    assert!(spool.forget_aside(ledger.returned()) && spool.forget_before(ledger.floor()));
    records.into_iter().map(|(_, number)| number).collect()
}

/// An outbox without a bus: what it was told, and has told.
struct Play {
    spool: Spool,
    ledger: Ledger,
    open: BTreeSet<u64>,
    /// Done, and the files say that they have forgotten it.
    forgotten: BTreeSet<u64>,
}

impl Play {
    fn new(spool: Spool) -> Self {
        Self {
            spool,
            ledger: Ledger::new(0, []),
            open: BTreeSet::new(),
            forgotten: BTreeSet::new(),
        }
    }

    /// Accepts an event, and hands it over. Is there room for it?
    fn put(&mut self, number: u64) -> bool {
        let put = self.spool.put(Item {
            event: event(number),
            watch: None,
        });
        let is_written = matches!(put, Ok(None));
        if is_written {
            self.ledger.hand_over(number);
            self.open.insert(number);
        }
        is_written
    }

    fn finish(&mut self, number: u64) {
        self.ledger.finish(number);
        self.open.remove(&number);
    }

    fn set_aside(&mut self) -> bool {
        let stuck = self.ledger.stuck(u64::MAX);
        let kept = self.spool.set_aside(&stuck);
        if let Ok(kept) = &kept {
            self.ledger.set_aside(kept);
        }
        kept.is_ok()
    }

    fn forget(&mut self) {
        let (floor, returned) = (self.ledger.floor(), self.ledger.returned().to_vec());
        if returned.is_empty() || self.spool.forget_aside(&returned) {
            self.ledger.swept(returned.len());
            self.forgotten.extend(returned);
        }
        if self.spool.forget_before(floor) {
            let left: BTreeSet<u64> = self.open.iter().chain(self.ledger.returned()).copied().collect();
            let done = (0..floor).filter(|number| !left.contains(number));
            self.forgotten.extend(done);
        }
    }

    /// Most are done at once, some a while later, and one never.
    fn rounds(&mut self, rounds: u64) {
        for number in 0..rounds {
            if !self.put(number) {
                return;
            }
            if number % 7 != 0 {
                self.finish(number);
            }
            if number % 7 == 3 && number > 70 {
                self.finish(number - 73);
            }
            if number % 20 == 19 {
                self.set_aside();
            }
            if number % 10 == 9 {
                self.forget();
            }
        }
    }
}

#[test]
fn an_event_that_nobody_takes_leaves_room() {
    for is_durable in [false, true] {
        let image = CrashImage::new();
        let mut play = Play::new(open(image.clone(), is_durable));
        assert!(play.put(0));
        for number in 1..2000 {
            if !play.put(number) {
                assert!(play.set_aside(), "it is written");
                play.forget();
                assert!(play.put(number), "there is room: {number}");
            }
            play.finish(number);
        }
        let stored = image.files().values().map(|file| file.len() as u64).sum::<u64>();
        assert!(stored <= 2 * ROOM, "{stored}");
        drop(play);
        let spool = open(image.killed(), is_durable);
        let (aside, log) = found(&spool);
        assert_eq!(aside, [0]);
        assert_eq!((spool.found().events(), spool.lost()), (1 + log.len() as u64, 0));
    }
}

#[test]
fn the_files_of_events_that_come_and_go_are_bounded() {
    let image = CrashImage::new();
    let mut play = Play::new(open(image.clone(), false));
    // The first one is never done.
    play.put(0);
    for number in 1..2000 {
        assert!(play.put(number), "there is room: {number}");
        if number % 4 != 0 {
            play.finish(number);
        } else if number > 20 {
            play.finish(number - 20);
        }
        if number % 4 == 1 {
            assert!(play.set_aside());
            play.forget();
        }
        let (aside, all) = (play.spool.aside.lock().len(), play.spool.bytes());
        assert!(aside <= ROOM && all <= 2 * ROOM, "{aside} of {all}");
    }
    drop(play);
    let (aside, log) = found(&open(image.killed(), false));
    let all: Vec<u64> = aside.iter().chain(&log).copied().collect();
    assert!(all.is_sorted_by(|a, b| a < b), "the oldest first, each once: {all:?}");
    assert_eq!((all[0], all.len() < 20), (0, true));
}

#[test]
fn when_all_is_stuck_nothing_is_written_again() {
    let mut play = Play::new(open(CrashImage::new(), false));
    let accepted = (0..).take_while(|number| play.put(*number)).count() as u64;
    let before = play.spool.bytes();
    assert!(play.set_aside());
    assert_eq!(play.spool.bytes(), before, "it would free nothing");
    // Now it would free one event, and there is room for some of the others.
    play.finish(accepted - 1);
    assert!(play.set_aside());
    let aside = play.spool.aside.lock().bytes;
    assert!(aside <= ROOM / 4, "{aside}");
    let floor = play.ledger.floor();
    assert!(floor > 0 && floor < accepted - 1, "{floor}");
    assert!(play.set_aside());
    assert_eq!(play.ledger.floor(), floor, "there is no more room");
    // The oldest ones are taken at last: there is room for those behind.
    (0..floor).for_each(|number| play.finish(number));
    play.forget();
    assert!(play.set_aside());
    assert!(play.ledger.floor() > floor);
}

#[test]
fn a_crash_in_any_call_loses_nothing_and_finds_nothing_twice() {
    for is_durable in [false, true] {
        let whole = CrashImage::new();
        Play::new(open(whole.clone(), is_durable)).rounds(120);
        let opened = CrashImage::new();
        drop(open(opened.clone(), is_durable));
        let (first, last) = (opened.calls() + 1, whole.calls());
        let mut with_copies = 0;
        for call in first..=last {
            let image = CrashImage::new();
            let mut play = Play::new(open(image.clone(), is_durable));
            image.power_off_at(call);
            play.rounds(120);
            let after = if is_durable {
                image.power_loss(call)
            } else {
                image.killed()
            };
            let spool = open(after.clone(), is_durable);
            with_copies += u64::from(!spool.copies.is_empty());
            let events = spool.found().events();
            let all = deliver(&spool);
            drop(spool);
            let left = found(&open(after.killed(), is_durable));
            assert_eq!(left, (vec![], vec![]), "{call}: all was delivered");
            assert_eq!(events, all.len() as u64, "{call}");
            assert!(all.is_sorted(), "the oldest first: {call}: {all:?}");
            let all: BTreeSet<u64> = all.iter().copied().collect();
            assert_eq!(events, all.len() as u64, "each once: {call}");
            assert!(play.open.is_subset(&all), "{call}: lost: {:?}", &play.open - &all);
            let again: Vec<_> = play.forgotten.intersection(&all).collect();
            assert!(again.is_empty(), "{call}: {again:?}");
        }
        assert!(with_copies > 0, "some crashes are between the copy and the cut");
    }
}

#[test]
fn what_could_not_be_written_is_told_later_or_taken_back() {
    for fault in [Fault::Sync, Fault::Write, Fault::ReadOnly] {
        let image = CrashImage::new();
        let mut play = Play::new(open(image.clone(), true));
        (0..5).for_each(|number| assert!(play.put(number)));
        play.finish(4);
        image.set_fault(Some(fault));
        assert!(!play.set_aside(), "{fault:?}");
        assert_eq!(play.ledger.floor(), 0, "the log must not forget them");
        // One is taken while nobody knows whether it is written.
        play.finish(1);
        image.set_fault(None);
        assert!(play.spool.has_untold());
        assert!(play.set_aside());
        assert_eq!(
            (play.ledger.floor(), play.ledger.returned()),
            (5, &[1][..]),
            "{fault:?}"
        );
        play.forget();
        drop(play);
        assert_eq!(
            found(&open(image.power_loss(3), true)),
            (vec![0, 2, 3], vec![]),
            "{fault:?}"
        );
    }
}

/// Numbers 0, 2 and 4 are aside, with their log.
fn filled() -> CrashImage {
    let image = CrashImage::new();
    let mut play = Play::new(open(image.clone(), false));
    (0..6).for_each(|number| assert!(play.put(number)));
    [1, 3, 5].into_iter().for_each(|number| play.finish(number));
    assert!(play.set_aside());
    play.forget();
    image
}

#[test]
fn numbers_that_begin_again_are_other_events() {
    let image = filled().killed();
    for path in image
        .files()
        .keys()
        .filter(|path| path.parent() == Some(Path::new("/spool")))
    {
        let _ = image.remove(path);
    }
    let spool = open(image.clone(), false);
    for number in 10..13 {
        let event = event(number);
        assert!(matches!(spool.put(Item { event, watch: None }), Ok(None)));
    }
    // They have the numbers 0, 1 and 2.
    drop(spool);
    let spool = open(image.clone(), false);
    assert_eq!(found(&spool), (vec![0, 2, 4], vec![10, 11, 12]));
    let kept = spool.set_aside(&[0, 1, 2]).expect("written");
    assert_eq!(kept, [1], "the numbers of the others are taken");
    assert!(spool.forget_aside(&[1, ASIDE | 2]));
    drop(spool);
    let (aside, _) = found(&open(image.killed(), false));
    assert_eq!(aside, [0, 4]);
}

#[test]
fn any_file_of_these_may_be_cut_or_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Spool::open(dir.path(), false, ROOM).expect("damage never keeps it from opening");
    let mut play = Play::new(open());
    (0..6).for_each(|number| assert!(play.put(number)));
    [1, 3, 5].into_iter().for_each(|number| play.finish(number));
    assert!(play.set_aside());
    play.forget();
    drop(play);
    let path = dir.path().join("waiting").join(format!("{:020}.seg", 0));
    let whole = fs::read(&path).expect("a segment");
    let cuts = (0..whole.len()).map(|len| whole[..len].to_vec());
    let changes = (0..whole.len()).map(|place| {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        bytes
    });
    for bytes in cuts.chain(changes).chain(iter::once(whole.clone())) {
        let is_whole = bytes.len() == whole.len();
        fs::write(&path, &bytes).expect("written");
        let (aside, log) = found(&open());
        assert!(log.is_empty());
        assert!(aside.iter().all(|number| [0, 2, 4].contains(number)) && aside.is_sorted());
        assert!(!is_whole || aside.len() >= 2, "one is lost at most: {aside:?}");
    }
}
