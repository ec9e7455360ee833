//! From a configuration to a connection.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::timeout;

use crate::classify::{Verdict, classify};
use crate::config::{ConnectConfig, Prepared};
use crate::connection::Connection;
use crate::course::Course;
use crate::error::{ConnectError, ConnectErrorKind, Failure};
use crate::observe::Signals;

/// Connects to the first server that can be reached; see [`Connection::connect`].
pub(crate) async fn dial(config: ConnectConfig) -> Result<Connection, ConnectError> {
    #[cfg(feature = "consul")]
    let (config, feed) = config.discovered().await?;
    let signals = Arc::new(Signals::default());
    let Prepared {
        options,
        addresses,
        connect_timeout,
        inbox_prefix,
        subscription_capacity,
        jetstream_domain,
        selector,
        tls_everywhere,
    } = config.prepare(&signals).await?;
    // async-nats bounds each address of a server, but neither the resolution of its name nor
    // the number of its addresses.
    let limit = connect_timeout.saturating_mul(2);
    let mut failures = Vec::with_capacity(addresses.len());
    for _ in &addresses {
        // async-nats asks the selector first, and then tries that server only.
        let attempt = Box::pin(options.clone().connect(addresses.as_slice()));
        let (verdict, cause) = match timeout(limit, without_panic(attempt)).await {
            Ok(Ok(Ok(client))) => {
                signals.attach(client.statistics());
                let capacity = Some(subscription_capacity);
                let course = Course::new(selector, tls_everywhere);
                // Without it, one that was to go to a single server would wait for that one if it is lost at once.
                course.align(&client, limit).await;
                let course = Some(course);
                let (connection, _) =
                    Connection::new(client, signals, inbox_prefix, capacity, jetstream_domain, course);
                #[cfg(feature = "consul")]
                if let Some(feed) = feed {
                    feed.start(connection.inner());
                }
                return Ok(connection);
            }
            Ok(Ok(Err(error))) => (classify(&error, connect_timeout), Some(error)),
            Ok(Err(Panicked)) => (Verdict::nonsense(), None),
            Err(_) => (Verdict::timeout(limit), None),
        };
        let stop = verdict.kind == ConnectErrorKind::Authentication;
        failures.push(Failure {
            server: selector
                .current()
                .map_or_else(String::new, |addr| addr.as_url_str().to_owned()),
            verdict,
            cause,
        });
        if stop {
            break;
        }
    }
    Err(ConnectError::servers(failures))
}

/// async-nats 0.51 panicked.
struct Panicked;

/// Runs a connect of async-nats, whose parser panics over some malformed lines (`-ERR` without a
/// text); what a server sends must not panic in the user's task.
async fn without_panic<F: Future + Unpin>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(Panicked)),
        },
    )
    .await
}
