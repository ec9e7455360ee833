//! How long calls and requests take, as histograms.

use std::sync::Arc;

use metrics::{Histogram, histogram};
use natstream_connect::Driver;
use tokio::time::Instant;

use super::Pool;
use crate::common::Common;

/// The histograms of a pool. Whoever installs a recorder does so before the pool is made: then no call has to look for them.
#[derive(Debug)]
pub(crate) struct Times {
    calls: Outcomes,
    requests: Outcomes,
    first_item: Histogram,
}

#[derive(Debug)]
struct Outcomes {
    complete: Histogram,
    incomplete: Histogram,
}

impl Times {
    pub(crate) fn new() -> Self {
        Self {
            calls: Outcomes {
                complete: histogram!("natstream_pool_call_duration_seconds", "outcome" => "complete"),
                incomplete: histogram!("natstream_pool_call_duration_seconds", "outcome" => "incomplete"),
            },
            requests: Outcomes {
                complete: histogram!("natstream_pool_request_duration_seconds", "outcome" => "complete"),
                incomplete: histogram!("natstream_pool_request_duration_seconds", "outcome" => "incomplete"),
            },
            first_item: histogram!("natstream_pool_first_item_seconds"),
        }
    }
}

/// A call, or a request for one reply, that is timed.
#[derive(Debug)]
pub(super) struct Timed {
    common: Arc<Common>,
    began: Instant,
    is_call: bool,
    has_item: bool,
}

impl Timed {
    pub(super) fn begin(pool: &Pool, is_call: bool) -> Self {
        Self {
            common: pool.inner.common.clone(),
            began: Driver::clock(),
            is_call,
            has_item: false,
        }
    }

    /// Items have come.
    pub(super) fn came(&mut self) {
        if !std::mem::replace(&mut self.has_item, true) {
            self.common.times.first_item.record(self.lasted());
        }
    }

    pub(super) fn ended(self, is_complete: bool) {
        let times = &self.common.times;
        let outcomes = if self.is_call { &times.calls } else { &times.requests };
        let histogram = if is_complete {
            &outcomes.complete
        } else {
            &outcomes.incomplete
        };
        histogram.record(self.lasted());
    }

    /// In seconds.
    fn lasted(&self) -> f64 {
        Driver::clock().saturating_duration_since(self.began).as_secs_f64()
    }
}
