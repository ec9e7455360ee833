//! What of an outbox waits for the disk beside deliveries: refusals are kept, and events that hold up others are set aside.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::deliveries::Deliveries;

/// An event that is under way for so long, or up to twice, and holds done ones, is set aside. Longer than most outages of a
/// stream's leader, and much shorter than a duplicate window: after a restart what is done behind an event that is not set aside
/// is sent again.
const HOLDS: Duration = Duration::from_secs(5);

/// Works until it is stopped. What has begun is finished then.
pub(super) async fn keep(deliveries: Arc<Deliveries>, mut stops: watch::Receiver<bool>) {
    let mut older_than = 0;
    let mut look = tokio::time::interval(HOLDS);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = async { drop(stops.wait_for(|stops| *stops).await) } => return,
            () = deliveries.refused.notified() => blocking(&deliveries, |deliveries| deliveries.keep_refused()).await,
            _ = look.tick() => {
                let before = std::mem::replace(&mut older_than, deliveries.ledger.lock().next());
                if deliveries.is_held(before) {
                    blocking(&deliveries, move |deliveries| deliveries.set_aside(before)).await;
                }
            }
        }
    }
}

/// Has this done where it may wait for the disk.
pub(super) async fn blocking(deliveries: &Arc<Deliveries>, work: impl FnOnce(&Deliveries) + Send + 'static) {
    let deliveries = deliveries.clone();
    if let Err(error) = tokio::task::spawn_blocking(move || work(&deliveries)).await {
        tracing::error!(%error, "a task of an outbox has failed");
    }
}
