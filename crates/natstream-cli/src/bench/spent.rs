//! What a load has cost this process.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::clock::now;

/// Runs from when it is made.
#[derive(Debug)]
pub(super) struct Stopwatch {
    began: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self {
            cpu: cpu(),
            began: now(),
        }
    }

    pub(super) fn read(&self) -> Spent {
        Spent {
            time: now() - self.began,
            cpu: cpu().saturating_sub(self.cpu),
        }
    }
}

/// Time that has passed, and that of the processors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) time: Duration,
    /// Of all threads of this process.
    pub(super) cpu: Duration,
}

impl Spent {
    pub(super) fn per_second(&self, count: u64) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    /// Processor time of each, in nanoseconds; `None` of nothing.
    pub(super) fn cpu_of_each(&self, count: u64) -> Option<f64> {
        (count > 0).then(|| self.cpu.as_secs_f64() * 1e9 / count as f64)
    }

    /// How many processors were busy.
    pub(super) fn processors(&self) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds > 0.0 {
            self.cpu.as_secs_f64() / seconds
        } else {
            0.0
        }
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Neither is ever negative, on this clock.
    Duration::new(
        time.tv_sec.try_into().unwrap_or_default(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time() {
        let watch = Stopwatch::start();
        let mut sum = 0_u64;
        while watch.read().cpu < Duration::from_millis(2) {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(watch.read().cpu_of_each(sum) > Some(0.0));
    }

    #[test]
    fn nothing_in_no_time_is_no_rate() {
        let spent = Spent::default();
        assert_eq!(
            (spent.per_second(7), spent.processors(), spent.cpu_of_each(0)),
            (0.0, 0.0, None)
        );
    }
}
