//! Where time comes from.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use parking_lot::Mutex;

/// The time of day, and a time that only grows.
///
/// [`SystemClock`] is the default; tests bring a [`ManualClock`].
pub trait Clock: Send + Sync + 'static {
    /// The time of day. It may jump.
    fn now(&self) -> SystemTime;

    /// Time since some instant; never jumps.
    fn elapsed(&self) -> Duration;

    /// Whether time passes by itself. Where it does not, waiting writers wait to be told.
    fn runs(&self) -> bool {
        true
    }

    /// Asks for `wake` to be called whenever time has changed, where it does not pass by itself.
    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        drop(wake);
    }
}

/// The clocks of the system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Starts counting [`elapsed`](Clock::elapsed).
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where writers get the time from")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where writers get the time from")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A clock that a test sets.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use stream_sinks::{Clock, ManualClock};
///
/// let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(3600));
/// ```
#[derive(Clone)]
pub struct ManualClock {
    state: Arc<Mutex<Manual>>,
}

type Wake = Arc<dyn Fn() + Send + Sync>;

struct Manual {
    now: SystemTime,
    elapsed: Duration,
    listeners: Vec<Wake>,
}

impl ManualClock {
    /// It is `now`.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self {
            state: Arc::new(Mutex::new(Manual {
                now,
                elapsed: Duration::ZERO,
                listeners: Vec::new(),
            })),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.change(|state| {
            state.now += by;
            state.elapsed += by;
        });
    }

    /// Sets the time of day, as an operator would, while no time passes.
    pub fn set(&self, now: SystemTime) {
        self.change(|state| state.now = now);
    }

    fn change(&self, change: impl FnOnce(&mut Manual)) {
        let listeners = {
            let mut state = self.state.lock();
            change(&mut state);
            state.listeners.clone()
        };
        for wake in listeners {
            wake();
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        self.state.lock().now
    }

    fn elapsed(&self) -> Duration {
        self.state.lock().elapsed
    }

    fn runs(&self) -> bool {
        false
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.state.lock().listeners.push(wake.into());
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("now", &self.now()).finish()
    }
}

/// For the calendar. Beyond the years of [`Timestamp`] time stands still.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(if time < SystemTime::UNIX_EPOCH {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
