//! Connections.

use std::sync::atomic::Ordering;

use metrics::Unit;
use natstream_connect::{Connection, Connections, ConnectionsStats};

use super::sealed::Observe;
use super::table::{Row, Table, level, total};

/// What is seen of one connection.
struct Figures {
    is_up: bool,
    is_lame: bool,
    reconnects: u64,
    received: u64,
    received_bytes: u64,
    sent: u64,
    sent_bytes: u64,
}

const ONE: Table<Figures> = Table {
    labels: &["connection"],
    metrics: &[
        level(
            "natstream_connection_up",
            Unit::Count,
            "1 while the connection is established, else 0.",
            |s| f64::from(u8::from(s.is_up)),
        ),
        level(
            "natstream_connection_lame_duck",
            Unit::Count,
            "1 while the server has said that it is about to stop, else 0.",
            |s| f64::from(u8::from(s.is_lame)),
        ),
        total(
            "natstream_connection_reconnects_total",
            Unit::Count,
            "How often the connection was lost and found again.",
            |s| s.reconnects,
        ),
        total(
            "natstream_connection_received_messages_total",
            Unit::Count,
            "Messages received, of all kinds.",
            |s| s.received,
        ),
        total(
            "natstream_connection_received_bytes_total",
            Unit::Bytes,
            "Bytes of these messages, without the protocol's own.",
            |s| s.received_bytes,
        ),
        total(
            "natstream_connection_sent_messages_total",
            Unit::Count,
            "Messages sent, of all kinds.",
            |s| s.sent,
        ),
        total(
            "natstream_connection_sent_bytes_total",
            Unit::Bytes,
            "Bytes of these messages, without the protocol's own.",
            |s| s.sent_bytes,
        ),
    ],
};

const MANY: Table<ConnectionsStats> = Table {
    labels: &["connections"],
    metrics: &[
        level(
            "natstream_connections_open",
            Unit::Count,
            "Connections that work is given to.",
            |s| s.connections as f64,
        ),
        level(
            "natstream_connections_up",
            Unit::Count,
            "Those of them that are with a server.",
            |s| s.up as f64,
        ),
        level(
            "natstream_connections_leases",
            Unit::Count,
            "Leases that are held.",
            |s| s.in_flight as f64,
        ),
        level(
            "natstream_connections_servers_down",
            Unit::Count,
            "Servers whose last dial has failed.",
            |s| s.servers.iter().filter(|server| server.failure.is_some()).count() as f64,
        ),
        total(
            "natstream_connections_dials_total",
            Unit::Count,
            "Connections that were established.",
            |s| s.dials_ok,
        ),
        total(
            "natstream_connections_failed_dials_total",
            Unit::Count,
            "Attempts to establish one that failed.",
            |s| s.dials_failed,
        ),
    ],
};

pub(super) fn rows() -> Vec<Row> {
    ONE.rows().chain(MANY.rows()).collect()
}

impl Observe for Connection {
    fn observe(&self, name: &str) {
        let state = *self.state().borrow();
        let counts = self.nats().statistics();
        let figures = Figures {
            is_up: state.is_connected(),
            is_lame: state.lame_duck,
            // The first connect is none.
            reconnects: state.epoch.saturating_sub(1),
            received: counts.in_messages.load(Ordering::Relaxed),
            received_bytes: counts.in_bytes.load(Ordering::Relaxed),
            sent: counts.out_messages.load(Ordering::Relaxed),
            sent_bytes: counts.out_bytes.load(Ordering::Relaxed),
        };
        ONE.tell(&[name], &figures);
    }
}

impl Observe for Connections {
    fn observe(&self, name: &str) {
        MANY.tell(&[name], &self.stats());
    }
}
