//! Moves the bytes of one direction of one connection.

use std::{
    collections::VecDeque,
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use tokio::{
    io::AsyncWriteExt,
    net::tcp::{ReadHalf, WriteHalf},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Link,
    settings::{Birth, Faults, Settings, Side},
};
use crate::select::{first, maybe};

/// One read. 64 KiB is what the loopback device hands over at most at a time.
const CHUNK: usize = 64 * 1024;

/// What a connection keeps of one direction while a delay lasts. It is the most that can be on
/// the way: with a delay of 1 s, no more than 64 MiB/s.
const MOST_DELAYED: usize = 64 * 1024 * 1024;

/// The connection is over, and both ends are to be reset.
#[derive(Debug)]
pub(super) struct Reset;

/// One direction of a connection: reads from one end, keeps the bytes while they are delayed,
/// and writes them to the other.
pub(super) struct Pump<'a> {
    side: Side,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    link: Arc<Link>,
    settings: watch::Receiver<Settings>,
    birth: Birth,
    queue: VecDeque<Item>,
    held: usize,
    /// The source has ended; nothing more comes.
    ended: bool,
    /// Bytes are read and lost, and so is the end.
    silent: bool,
}

struct Item {
    arrived: Instant,
    what: What,
}

enum What {
    Bytes { bytes: Vec<u8>, written: usize },
    Fin,
    Reset,
}

/// What the head of the queue waits for.
enum Head {
    /// Something else than time: the next bytes, or another setting.
    Nothing,
    Time(Instant),
    /// The destination.
    Room,
}

impl<'a> Pump<'a> {
    pub(super) fn new(side: Side, from: ReadHalf<'a>, to: WriteHalf<'a>, link: &Arc<Link>, birth: Birth) -> Self {
        Self {
            side,
            from,
            to,
            link: link.clone(),
            settings: link.settings.subscribe(),
            birth,
            queue: VecDeque::new(),
            held: 0,
            ended: false,
            silent: false,
        }
    }

    /// Moves bytes until the source has ended and all went to the destination, its end too.
    pub(super) async fn run(mut self) -> Result<(), Reset> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let faults = self.look();
            if self.silent && self.ended {
                return Ok(());
            }
            let reads = !self.ended && !faults.hold && self.held < room(&faults);
            let head = self.head(&faults, Instant::now());
            self.wait(reads, &head).await;

            // The wait may have been long, and the settings are others now.
            let faults = self.look();
            if faults.hold {
                continue;
            }
            if reads {
                self.read(&mut buffer);
            }
            if self.write(&faults).await? {
                return Ok(());
            }
        }
    }

    /// The settings of this moment. What it sees is no longer waited for.
    fn look(&mut self) -> Faults {
        let settings = self.settings.borrow_and_update();
        self.silent |= self.birth.is_silent(&settings, self.side);
        if self.silent {
            self.queue.clear();
            self.held = 0;
        }
        *settings.side(self.side)
    }

    fn head(&self, faults: &Faults, now: Instant) -> Head {
        let Some(item) = self.queue.front().filter(|_| !faults.hold) else {
            return Head::Nothing;
        };
        let due = item.arrived + faults.delay;
        if due > now {
            return Head::Time(due);
        }
        match (&item.what, faults.bytes_per_second) {
            (What::Bytes { bytes, written }, Some(rate)) => {
                let mut bucket = self.link.bucket(self.side);
                match bucket.take(rate, bytes.len() - written, now) {
                    Ok(taken) => {
                        bucket.refund(rate, taken);
                        Head::Room
                    }
                    Err(at) => Head::Time(at),
                }
            }
            _ => Head::Room,
        }
    }

    /// Returns when a setting has changed, or when reading or writing may get on.
    async fn wait(&mut self, reads: bool, head: &Head) {
        let settings = &mut self.settings;
        let changed = pin!(async {
            settings.changed().await.expect("the sender lives in `link`");
        });
        // Errors come out again when it is tried.
        let readable = pin!(async {
            let _ = maybe(reads.then(|| self.from.readable())).await;
        });
        let time = pin!(maybe(match head {
            Head::Time(at) => Some(sleep_until(*at)),
            Head::Nothing | Head::Room => None,
        }));
        let writable = pin!(async {
            let _ = maybe(matches!(head, Head::Room).then(|| self.to.writable())).await;
        });
        first([changed, readable, writable, time]).await;
    }

    fn read(&mut self, buffer: &mut [u8]) {
        let what = match self.from.try_read(buffer) {
            Ok(0) => What::Fin,
            Ok(len) => What::Bytes {
                bytes: buffer[..len].to_vec(),
                written: 0,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => What::Reset,
        };
        if let What::Bytes { bytes, .. } = &what {
            self.held += bytes.len();
        } else {
            self.ended = true;
        }
        if self.silent {
            self.held = 0;
            return;
        }
        self.queue.push_back(Item {
            arrived: Instant::now(),
            what,
        });
    }

    /// Writes the head of the queue when its time has come. True when all has been written,
    /// the end too.
    async fn write(&mut self, faults: &Faults) -> Result<bool, Reset> {
        if !matches!(self.head(faults, Instant::now()), Head::Room) {
            return Ok(false);
        }
        let Some(item) = self.queue.front_mut() else {
            return Ok(false);
        };
        let (bytes, written) = match &mut item.what {
            What::Bytes { bytes, written } => (bytes, written),
            What::Fin => {
                // Of TCP, this never waits. It fails where the peer has gone, as below.
                return match self.to.shutdown().await {
                    Ok(()) => Ok(true),
                    Err(_) => self.destination_is_gone().map(|()| true),
                };
            }
            What::Reset => return Err(Reset),
        };

        let left = &bytes[*written..];
        let now = Instant::now();
        let allowed = match faults.bytes_per_second {
            None => left.len(),
            Some(rate) => match self.link.bucket(self.side).take(rate, left.len(), now) {
                Ok(allowed) => allowed,
                // Another connection was faster.
                Err(_) => return Ok(false),
            },
        };
        let result = self.to.try_write(&left[..allowed]);
        let sent = result.as_ref().map_or(0, |sent| *sent);
        if let Some(rate) = faults.bytes_per_second {
            self.link.bucket(self.side).refund(rate, allowed - sent);
        }
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return self.destination_is_gone().map(|()| false),
            Ok(_) => {}
        }
        *written += sent;
        self.held -= sent;
        self.link.passed[self.side.index()].fetch_add(sent as u64, Ordering::Relaxed);
        if *written == bytes.len() {
            self.queue.pop_front();
        }
        Ok(false)
    }

    /// The source learns it by a reset, unless nothing comes through from there.
    fn destination_is_gone(&mut self) -> Result<(), Reset> {
        if !self.birth.is_silent(&self.settings.borrow(), self.side.other()) {
            return Err(Reset);
        }
        self.silent = true;
        Ok(())
    }
}

/// How many bytes of one direction a connection keeps.
fn room(faults: &Faults) -> usize {
    if faults.delay.is_zero() {
        return CHUNK;
    }
    // What is on the way at that rate. More would be a queue before the link, which its sender
    // takes for the link itself.
    let on_the_way = |rate: u64| faults.delay.as_secs_f64() * rate as f64;
    faults.bytes_per_second.map_or(MOST_DELAYED, |rate| {
        (on_the_way(rate.get()) as usize)
            .saturating_add(CHUNK)
            .min(MOST_DELAYED)
    })
}
