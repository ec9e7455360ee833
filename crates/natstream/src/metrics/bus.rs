//! Buses, consumers and outboxes.

use eventbus::{Bus, BusStats, Consumer, ConsumerStats, FastBus, FastStats};
#[cfg(feature = "spool")]
use eventbus::{Outbox, OutboxStats};
use metrics::Unit;

use super::sealed::Observe;
use super::table::{Row, Table, level, total};

const BUS: Table<BusStats> = Table {
    labels: &["bus"],
    metrics: &[
        total(
            "natstream_bus_accepted_events_total",
            Unit::Count,
            "Events that entered the window.",
            |s| s.accepted,
        ),
        total(
            "natstream_bus_acked_events_total",
            Unit::Count,
            "Events that a stream has.",
            |s| s.acked,
        ),
        total(
            "natstream_bus_duplicate_events_total",
            Unit::Count,
            "Those of the acked that the stream had already.",
            |s| s.duplicates,
        ),
        total(
            "natstream_bus_failed_events_total",
            Unit::Count,
            "Events that were handed back.",
            |s| s.failed,
        ),
        level(
            "natstream_bus_pending_events",
            Unit::Count,
            "Events in the window.",
            |s| s.pending as f64,
        ),
        level(
            "natstream_bus_pending_bytes",
            Unit::Bytes,
            "Bytes of the events in the window.",
            |s| s.pending_bytes as f64,
        ),
        total(
            "natstream_bus_retried_events_total",
            Unit::Count,
            "How often an event was sent again.",
            |s| s.retried,
        ),
        level(
            "natstream_bus_waiting_producers",
            Unit::Count,
            "Producers that wait for room in the window.",
            |s| s.waiting as f64,
        ),
    ],
};

const FAST: Table<FastStats> = Table {
    labels: &["bus"],
    metrics: &[
        total(
            "natstream_bus_accepted_events_total",
            Unit::Count,
            "Events that entered the window.",
            |s| s.accepted,
        ),
        total(
            "natstream_bus_acked_events_total",
            Unit::Count,
            "Events that a stream has.",
            |s| s.acked,
        ),
        total(
            "natstream_bus_failed_events_total",
            Unit::Count,
            "Events that were handed back.",
            |s| s.failed,
        ),
        level(
            "natstream_bus_pending_events",
            Unit::Count,
            "Events in the window.",
            |s| s.pending as f64,
        ),
        level(
            "natstream_bus_pending_bytes",
            Unit::Bytes,
            "Bytes of the events in the window.",
            |s| s.pending_bytes as f64,
        ),
        total(
            "natstream_bus_retried_events_total",
            Unit::Count,
            "How often an event was sent again.",
            |s| s.retried,
        ),
        level(
            "natstream_bus_waiting_producers",
            Unit::Count,
            "Producers that wait for room in the window.",
            |s| s.waiting as f64,
        ),
        total(
            "natstream_bus_batches_total",
            Unit::Count,
            "Batches that a fast bus has begun.",
            |s| s.batches,
        ),
    ],
};

const CONSUMER: Table<ConsumerStats> = Table {
    labels: &["stream", "consumer"],
    metrics: &[
        total(
            "natstream_consumer_received_messages_total",
            Unit::Count,
            "Messages that came, each delivery counted.",
            |s| s.received,
        ),
        total(
            "natstream_consumer_redelivered_messages_total",
            Unit::Count,
            "Those that had been delivered before, here or elsewhere.",
            |s| s.redelivered,
        ),
        total(
            "natstream_consumer_repeated_messages_total",
            Unit::Count,
            "Deliveries of messages that were held already.",
            |s| s.repeated,
        ),
        total(
            "natstream_consumer_surplus_messages_total",
            Unit::Count,
            "Deliveries beyond what there is room for.",
            |s| s.surplus,
        ),
        total(
            "natstream_consumer_requests_total",
            Unit::Count,
            "Requests for messages.",
            |s| s.requests,
        ),
        level(
            "natstream_consumer_held_messages",
            Unit::Count,
            "Messages that are here, those included that are handled.",
            |s| s.held as f64,
        ),
        level(
            "natstream_consumer_in_flight_messages",
            Unit::Count,
            "Messages that are handled.",
            |s| s.in_flight as f64,
        ),
        level(
            "natstream_consumer_resting_messages",
            Unit::Count,
            "Messages that have failed and wait here for their next attempt.",
            |s| s.resting as f64,
        ),
        total(
            "natstream_consumer_handled_messages_total",
            Unit::Count,
            "Messages that were handled.",
            |s| s.handled,
        ),
        total(
            "natstream_consumer_failed_attempts_total",
            Unit::Count,
            "Attempts that failed.",
            |s| s.failed,
        ),
        total(
            "natstream_consumer_dead_messages_total",
            Unit::Count,
            "Messages that were put aside.",
            |s| s.dead,
        ),
        total(
            "natstream_consumer_unconfirmed_acks_total",
            Unit::Count,
            "Acks that nobody has confirmed.",
            |s| s.unconfirmed,
        ),
        total(
            "natstream_consumer_silences_total",
            Unit::Count,
            "How often nothing was heard for two heartbeats.",
            |s| s.silences,
        ),
        level(
            "natstream_consumer_lag_messages",
            Unit::Count,
            "Messages that the consumer had for us after the last one that came.",
            |s| s.lag as f64,
        ),
    ],
};

const READY: Table<Consumer> = Table {
    labels: &["stream", "consumer"],
    metrics: &[level(
        "natstream_consumer_ready",
        Unit::Count,
        "1 while the connection is up and the consumer was not told to drain, else 0.",
        |s| f64::from(u8::from(s.is_ready())),
    )],
};

#[cfg(feature = "spool")]
const OUTBOX: Table<OutboxStats> = Table {
    labels: &["outbox"],
    metrics: &[
        total(
            "natstream_outbox_accepted_events_total",
            Unit::Count,
            "Events that were accepted, and written.",
            |s| s.accepted,
        ),
        level(
            "natstream_outbox_found_events",
            Unit::Count,
            "Events of a process before, which were found when the outbox was opened.",
            |s| s.found as f64,
        ),
        total(
            "natstream_outbox_acked_events_total",
            Unit::Count,
            "Events that a stream has.",
            |s| s.acked,
        ),
        total(
            "natstream_outbox_duplicate_events_total",
            Unit::Count,
            "Those of them that the stream had already.",
            |s| s.duplicates,
        ),
        total(
            "natstream_outbox_rejected_events_total",
            Unit::Count,
            "Events that can never be delivered, and are kept.",
            |s| s.rejected,
        ),
        level(
            "natstream_outbox_spooled_events",
            Unit::Count,
            "Events that are in the files and not delivered yet.",
            |s| s.spooled as f64,
        ),
        level(
            "natstream_outbox_spool_bytes",
            Unit::Bytes,
            "Bytes of the files.",
            |s| s.bytes as f64,
        ),
        level(
            "natstream_outbox_damaged_files",
            Unit::Count,
            "Files that were damaged when the outbox was opened.",
            |s| s.damaged as f64,
        ),
    ],
};

pub(super) fn rows() -> Vec<Row> {
    let rows = BUS.rows().chain(FAST.rows()).chain(READY.rows()).chain(CONSUMER.rows());
    #[cfg(feature = "spool")]
    let rows = rows.chain(OUTBOX.rows());
    rows.collect()
}

impl Observe for Bus {
    fn observe(&self, name: &str) {
        BUS.tell(&[name], &self.stats());
    }
}

impl Observe for FastBus {
    fn observe(&self, name: &str) {
        FAST.tell(&[name], &self.stats());
    }
}

impl Observe for Consumer {
    fn observe(&self, name: &str) {
        let labels = [self.spec().stream(), name];
        READY.tell(&labels, self);
        CONSUMER.tell(&labels, &self.stats());
    }
}

#[cfg(feature = "spool")]
impl Observe for Outbox {
    fn observe(&self, name: &str) {
        OUTBOX.tell(&[name], &self.stats());
    }
}
