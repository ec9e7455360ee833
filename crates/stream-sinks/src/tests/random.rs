//! Anything in any order: records, flushes, hours, faults that come and go, kills and losses of power.

use std::time::Duration;

use super::world::{World, builder, time, visible};
use crate::{CrashImage, Fault, Format, Frames, ManualClock, Receipt, Record, Rotation, SinkError, Sync};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }

    fn fault(&mut self, image: &CrashImage) -> Option<Fault> {
        match self.up_to(7) {
            0 => Some(Fault::Full(image.used() + self.up_to(2000))),
            1 => Some(Fault::ReadOnly),
            2 => Some(Fault::Sync),
            3 => Some(Fault::Write),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Lines,
    Frames,
    /// Their end is known from the journal only.
    Raw,
    /// Lines too, cut back to the last commit.
    Sequenced,
    #[cfg(feature = "zstd")]
    Zstd,
}

const FORMS: &[Form] = &[
    Form::Lines,
    Form::Frames,
    Form::Raw,
    Form::Sequenced,
    #[cfg(feature = "zstd")]
    Form::Zstd,
];

/// Of raw records.
const WIDTH: usize = 40;

#[derive(Clone, Debug)]
struct Setting {
    sync: Sync,
    rotation: Rotation,
    form: Form,
}

impl Setting {
    fn of(random: &mut Random) -> Self {
        let sync = [Sync::Commit, Sync::Interval(Duration::from_secs(1)), Sync::None];
        let rotation = [
            Rotation::HOURLY,
            Rotation::HOURLY.or_size(700),
            Rotation::DAILY,
            Rotation::MINUTELY,
        ];
        Self {
            sync: sync[random.up_to(3) as usize],
            rotation: rotation[random.up_to(4) as usize],
            form: FORMS[random.up_to(FORMS.len() as u64) as usize],
        }
    }

    fn open(&self, image: &CrashImage, clock: &ManualClock) -> Result<World, SinkError> {
        let builder = builder(image).sync(self.sync).rotation(self.rotation);
        let builder = match self.form {
            Form::Lines | Form::Sequenced => builder,
            Form::Frames => builder.format(Format::length_prefixed()),
            Form::Raw => builder.format(Format::raw()),
            #[cfg(feature = "zstd")]
            Form::Zstd => builder.zstd(1),
        };
        World::open(builder.close_timeout(Duration::ZERO), clock)
    }

    /// All numbers in closed files, in their order.
    fn read(&self, image: &CrashImage) -> Vec<u64> {
        let mut files: Vec<_> = visible(image).into_iter().collect();
        files.retain(|(path, _)| !path.display().to_string().contains("damaged"));
        files.sort_by_key(|(path, _)| {
            let name = path.display().to_string();
            let name = name
                .trim_end_matches(".zst")
                .strip_suffix(".log")
                .expect("closed")
                .to_owned();
            let (period, index) = name.split_once('.').unwrap_or((&name, "0"));
            (period.to_owned(), index.parse::<u64>().unwrap())
        });
        let number = |record: &[u8]| {
            str::from_utf8(record)
                .unwrap()
                .trim_end_matches('.')
                .parse::<u64>()
                .expect("whole")
        };
        let lines = |bytes: &[u8]| -> Vec<u64> {
            assert!(bytes.ends_with(b"\n"), "torn");
            bytes[..bytes.len() - 1]
                .split(|byte| *byte == b'\n')
                .map(number)
                .collect()
        };
        let mut all = Vec::new();
        for (_, bytes) in files {
            match self.form {
                Form::Frames => all.extend(Frames::new(&bytes).map(|frame| number(frame.unwrap()))),
                Form::Raw => all.extend(bytes.chunks(WIDTH).map(number)),
                Form::Lines | Form::Sequenced => all.extend(lines(&bytes)),
                #[cfg(feature = "zstd")]
                Form::Zstd => all.extend(lines(&zstd::decode_all(&bytes[..]).unwrap())),
            }
        }
        all
    }
}

/// A life of a writer until it is killed or loses power: gives what it promised.
fn live(world: &mut World, setting: &Setting, image: &CrashImage, random: &mut Random, next: u64) -> Receipt {
    let mut accepted = 0;
    for _ in 0..20 + random.up_to(60) {
        match random.up_to(10) {
            0..=5 => {
                for _ in 0..random.up_to(30) {
                    let width = match setting.form {
                        Form::Raw => WIDTH,
                        _ => 20 + random.up_to(40) as usize,
                    };
                    let line = format!("{:.<width$}", next + accepted);
                    let mut record = Record::from(&line);
                    if setting.form == Form::Sequenced {
                        record = record.sequence(next + accepted);
                    }
                    accepted += u64::from(world.append_waiting(record).is_ok());
                }
            }
            6 => {
                world.opened.queue.ask_flush();
                world.settle();
            }
            7 => {
                world.opened.queue.ask_roll();
                world.settle();
            }
            8 => world.pass(Duration::from_secs(random.up_to(4000))),
            _ => image.set_fault(random.fault(image)),
        }
        let receipt = world.receipt();
        assert!(receipt.survive_power_loss <= receipt.survive_kill && receipt.survive_kill <= accepted);
    }
    world.receipt()
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let setting = Setting::of(&mut random);
    let clock = ManualClock::new(time("2026-11-20T04:10:00Z"));
    let mut image = CrashImage::new();
    let mut next = 0;
    for life in 0..6 {
        let what = format!("seed {seed}, life {life}, {setting:?}");
        let mut world = setting
            .open(&image, &clock)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let receipt = live(&mut world, &setting, &image, &mut random, next);
        let (after, promised) = match random.up_to(3) {
            0 if setting.sync != Sync::None => {
                let after = image.power_loss(random.up_to(1 << 20));
                (after, receipt.survive_power_loss)
            }
            1 => {
                image.set_fault(None);
                world.pass(Duration::from_secs(10));
                let receipt = world.close().unwrap_or_else(|error| panic!("{what}: {error}"));
                (image.killed(), receipt.survive_kill)
            }
            _ => (image.killed(), receipt.survive_kill),
        };
        image = after;
        let mut world = setting
            .open(&image, &clock)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(world.recovery().set_aside.is_empty(), "{what}: {:?}", world.recovery());
        world.close().unwrap();
        let found = setting.read(&image);
        let count = found.len() as u64;
        let wrong = found.iter().zip(0..).position(|(found, expected)| *found != expected);
        let around = wrong.map(|at| &found[at.saturating_sub(2)..found.len().min(at + 3)]);
        assert_eq!(
            around,
            None,
            "{what}: lost, repeated or out of order, {:?}",
            visible(&image).keys()
        );
        assert!(
            count >= next + promised,
            "{what}: {count}, {promised} promised behind {next}"
        );
        next = count;
        // Another life is another time, so that names sort by it.
        clock.advance(Duration::from_secs(86_400));
    }
}

#[test]
fn what_was_promised_is_there_once_whatever_happens() {
    for seed in 0..200 {
        run(seed);
    }
}
