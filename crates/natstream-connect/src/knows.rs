//! What a route knows of its connection.

use crate::state::ConnectionState;

/// The connection that a route was added on, or was told of last, and whether it was told that this one is lost.
///
/// Connections are counted from 1. What happened before the route was added does not concern it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Knows {
    connection: u64,
    is_lost: bool,
}

/// What is news to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) went_down: bool,
    pub(crate) came_up: bool,
}

impl Knows {
    /// Of a route that is added while this connection is up.
    pub(crate) fn new(connection: u64) -> Self {
        Self {
            connection,
            is_lost: false,
        }
    }

    /// What `state` says that is not known, and what is known then.
    pub(crate) fn news(self, state: ConnectionState) -> (News, Self) {
        let is_newer = state.epoch > self.connection;
        let is_loss = !state.is_connected() && state.epoch >= self.connection;
        let went_down = !self.is_lost && (is_newer || is_loss);
        let came_up = state.is_connected() && (is_newer || self.is_lost && state.epoch >= self.connection);
        let after = if went_down || came_up {
            Self {
                connection: state.epoch.max(self.connection),
                is_lost: !state.is_connected(),
            }
        } else {
            self
        };
        (News { went_down, came_up }, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ConnectionStatus;

    fn state(is_up: bool, epoch: u64) -> ConnectionState {
        let status = if is_up {
            ConnectionStatus::Connected
        } else {
            ConnectionStatus::Disconnected
        };
        ConnectionState::new(status, epoch, false)
    }

    /// What a route that was added on connection `added` is told by these states: `-` down, `+` up.
    fn told(added: u64, states: &[(bool, u64)]) -> String {
        let mut knows = Knows::new(added);
        let mut told = String::new();
        for (is_up, epoch) in states {
            let (news, after) = knows.news(state(*is_up, *epoch));
            told.push_str(if news.went_down { "-" } else { "" });
            told.push_str(if news.came_up { "+" } else { "" });
            told.push(' ');
            knows = after;
        }
        told
    }

    #[test]
    fn every_loss_and_every_return_is_told_once() {
        for (added, states, expected) in [
            (1, &[(true, 1)][..], " "),
            (1, &[(false, 1), (true, 2)], "- + "),
            (1, &[(false, 1), (false, 1), (true, 2), (true, 2)], "-  +  "),
            (1, &[(true, 2)], "-+ "),
            (1, &[(true, 2), (true, 4)], "-+ -+ "),
            // A connection that came and went unseen.
            (1, &[(false, 1), (true, 3)], "- + "),
            (2, &[(false, 1), (true, 3)], " -+ "),
            // What was before the route does not concern it.
            (2, &[(false, 1), (true, 2)], "  "),
            (2, &[(true, 2), (false, 2), (true, 3)], " - + "),
            // Added while the connection was down.
            (1, &[(true, 2)], "-+ "),
        ] {
            assert_eq!(told(added, states), expected, "added on {added}, {states:?}");
        }
    }

    #[test]
    fn what_is_known_only_grows() {
        let (lost, fresh) = (
            Knows {
                connection: 1,
                is_lost: true,
            },
            Knows::new(2),
        );
        assert!(Knows::new(1) < lost && lost < fresh);
    }
}
