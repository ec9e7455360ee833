//! What the connection says that concerns answers which are kept.

use std::sync::{Arc, Weak};

use natstream_connect::{Connection, ConnectionState, Denials, ServerErrorEvent};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot, watch};

use super::Answered;

/// Tells `answered` of the connection until what this gives is dropped.
pub(super) fn begin(answered: &Arc<Answered>, connection: &Connection) -> oneshot::Sender<()> {
    let (gone, is_gone) = oneshot::channel();
    let changes = connection.state();
    let seen = *changes.borrow();
    let errors = connection.server_errors();
    connection
        .runtime()
        .spawn(follow(Arc::downgrade(answered), changes, seen, errors, is_gone));
    gone
}

async fn follow(
    answered: Weak<Answered>,
    mut changes: watch::Receiver<ConnectionState>,
    mut seen: ConnectionState,
    mut errors: broadcast::Receiver<ServerErrorEvent>,
    mut gone: oneshot::Receiver<()>,
) {
    // While the connection is down no timer holds them, and their server may go.
    let mut held = answered.upgrade().filter(|_| !seen.is_connected());
    if let Some(answered) = &held {
        answered.went_down();
    }
    let mut is_deaf = false;
    loop {
        let is_open = tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            event = errors.recv(), if !is_deaf => {
                match event {
                    Ok(event) => {
                        let denied = Denials::gathered(event, &mut errors);
                        if let Some(answered) = answered.upgrade() {
                            answered.denied(&denied);
                        }
                        // Each message may be refused, thousands in a second.
                        tokio::time::sleep(Denials::PAUSE).await;
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => is_deaf = true,
                }
                continue;
            }
            _ = &mut gone => return,
        };
        let now = *changes.borrow_and_update();
        let Some(answered) = answered.upgrade() else { return };
        if !is_open || now.is_closed() {
            return answered.clear();
        }
        if !now.is_connected() {
            answered.went_down();
            held.replace(answered);
        } else if now.epoch != seen.epoch || !seen.is_connected() {
            answered.came_back();
            held.take();
        }
        seen = now;
    }
}
