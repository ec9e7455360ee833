//! The tables.

use super::consumer::{Ours, Way};
use super::{Case, Round};
use crate::options::Storage;
use crate::report::{Cell, Spread, Table};

pub(super) fn compare(storage: Storage, cases: &[Case], measured: &[Vec<Round>]) -> Table {
    let mut table = Table::new(
        format!("{storage:?}"),
        [
            ("batch", 0),
            ("", 0),
            ("k messages/s", 0),
            ("times its peer", 2),
            ("client CPU ns", 0),
            ("server CPU ns", 0),
            ("allocations", 2),
        ],
    );
    for (case, rounds) in cases.iter().zip(measured).filter(|(case, _)| case.storage == storage) {
        // What is compared: ours, confirmed, with theirs, unconfirmed; the confirmed one stands beside it.
        let way = match case.way {
            Way::Natstream(Ours::ForEach) | Way::MessagesConfirmed | Way::Messages => Way::Messages,
            Way::Natstream(Ours::Fetch) | Way::FetchConfirmed | Way::Fetch => Way::Fetch,
        };
        let peer = cases.iter().position(|other| *other == Case { way, ..*case });
        table.row([
            Cell::from(case.batch),
            name(case.way).into(),
            Spread::by(rounds, 1e-3, |round| round.rate).into(),
            peer.map(|peer| Spread::ratio(rounds, &measured[peer], |round| round.rate))
                .into(),
            Spread::by(rounds, 1.0, |round| round.each.client_cpu_ns).into(),
            Spread::by(rounds, 1.0, |round| round.each.server_cpu_ns).into(),
            Spread::by(rounds, 1.0, |round| round.each.allocations).into(),
        ]);
    }
    table
}

fn name(way: Way) -> &'static str {
    match way {
        Way::Natstream(Ours::ForEach) => "for_each, confirmed",
        Way::Natstream(Ours::Fetch) => "fetch, confirmed",
        Way::Messages => "async-nats messages, ack",
        Way::MessagesConfirmed => "async-nats messages, double_ack",
        Way::Fetch => "async-nats fetch, ack",
        Way::FetchConfirmed => "async-nats fetch, double_ack",
    }
}
