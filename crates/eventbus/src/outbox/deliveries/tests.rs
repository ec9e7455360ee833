//! What the disk and the tasks of the connection have to do with each other.

use std::path::Path;
use std::sync::Arc;

use stream_sinks::{CrashImage, Fault};

use super::*;
use crate::outbox::spool::Item;

fn deliveries(image: &CrashImage, is_durable: bool) -> Deliveries {
    let spool = Spool::on(Arc::new(image.clone()), Path::new("/spool"), is_durable, 1 << 20).expect("open");
    Deliveries::new(spool, is_durable, engine::Ordering::Fast, Some(Box::new(|_| {})))
}

/// It was tried, and refused for good.
fn refuse(deliveries: &Deliveries) {
    let (turn, event) = deliveries.turns.lock().next(u64::MAX).expect("its turn");
    let error = PublishError::unsent(event, PublishErrorKind::Rejected);
    deliveries.settle(turn, Err(error));
}

#[tokio::test]
async fn a_task_of_the_connection_does_not_wait_for_the_disk() {
    for is_durable in [false, true] {
        let image = CrashImage::new();
        let deliveries = deliveries(&image, is_durable);
        let event = Event::new("s", "refused").message_id("1");
        let item = Item {
            event: event.clone(),
            watch: None,
        };
        assert!(matches!(deliveries.spool.put(item), Ok(None)));
        deliveries.hand_over(0, event);
        let calls = image.calls();
        image.set_fault(Some(Fault::ReadOnly));
        refuse(&deliveries);
        assert_eq!(image.calls() == calls, is_durable, "a write alone does not wait");
        deliveries.keep_refused();
        assert_eq!(
            (deliveries.spooled(), deliveries.pending()),
            (1, 1),
            "it is not kept yet"
        );
        image.set_fault(None);
        // It is tried again.
        refuse(&deliveries);
        deliveries.keep_refused();
        assert_eq!(deliveries.spooled(), 0);
        assert_eq!(deliveries.spool.rejected().expect("read").len(), 1);
        assert_eq!(deliveries.forget(), Some(1));
    }
}
