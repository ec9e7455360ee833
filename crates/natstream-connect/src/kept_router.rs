//! One router for all who share a connection's answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::SubscribeError;
use tokio::sync::RwLock;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::router::{Router, Unrouted};
use crate::supervisor::now;

/// A subscription that was refused is tried again so often at most: nats-server writes each refusal into its log.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A router that is made when it is first asked for.
///
/// nats-server applies new permissions to open connections, but subscriptions that it has refused or taken back stay away.
/// So a router without its subscription is replaced when it is asked for again, once a second at most.
#[derive(Default)]
pub struct KeptRouter {
    kept: RwLock<Option<Kept>>,
}

struct Kept {
    router: Router,
    made: Instant,
}

impl Kept {
    fn is_usable(&self) -> bool {
        !self.router.is_denied() || now().saturating_duration_since(self.made) < TRY_AGAIN
    }
}

impl KeptRouter {
    /// The router; messages that belong to no route go to `unrouted`, if it has to be made.
    ///
    /// # Errors
    /// When the connection has been closed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn get(
        &self,
        connection: &Connection,
        unrouted: impl FnOnce() -> Arc<dyn Unrouted>,
    ) -> Result<Router, SubscribeError> {
        let usable = |kept: &Option<Kept>| {
            let kept = kept.as_ref().filter(|kept| kept.is_usable());
            kept.map(|kept| kept.router.clone())
        };
        if let Some(router) = usable(&*self.kept.read().await) {
            return Ok(router);
        }
        let mut kept = self.kept.write().await;
        // Somebody else may have been faster.
        if let Some(router) = usable(&kept) {
            return Ok(router);
        }
        let router = connection.router(unrouted()).await?;
        *kept = Some(Kept {
            router: router.clone(),
            made: now(),
        });
        Ok(router)
    }
}

impl fmt::Debug for KeptRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.try_read().ok();
        let router = kept.as_ref().and_then(|kept| kept.as_ref()).map(|kept| &kept.router);
        f.debug_tuple("KeptRouter").field(&router).finish()
    }
}
