//! One connection through a proxy, from its accept to its end.

use std::{pin::pin, sync::Arc};

use tokio::net::TcpStream;

use super::{
    Link,
    pump::{Pump, Reset},
    settings::{Birth, Settings, Side},
};
use crate::select::{both, first};

/// Counts a connection as live until it is dropped.
pub(super) struct Live(Arc<Link>);

impl Live {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        link.live.send_modify(|live| *live += 1);
        Self(link.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.send_modify(|live| *live -= 1);
    }
}

/// Serves `client` until both directions have ended, one end is gone, or it is cut.
pub(super) async fn serve(mut client: TcpStream, link: Arc<Link>, birth: Birth, live: Live) {
    // Nothing gets through to make a connection.
    let open = async {
        wait(&link, |settings| !settings.holds_any()).await;
        Ok(())
    };
    if uncut(&link, birth, open).await.is_err() {
        return reset(client);
    }

    let mut dial = pin!(TcpStream::connect(&link.target));
    let dialled = uncut(&link, birth, async { Ok(dial.as_mut().await) }).await;
    let mut target = match dialled {
        Ok(Ok(target)) => target,
        Ok(Err(_)) => return reset(client),
        Err(Reset) => {
            reset(client);
            // Dropping the dial of a connection that stands already would end it orderly.
            if let Ok(target) = dial.await {
                reset(target);
            }
            return;
        }
    };

    let carried = uncut(&link, birth, carry(&mut client, &mut target, &link, birth)).await;
    if carried.is_err() {
        reset(client);
        reset(target);
    }
    // Not before both ends are closed.
    drop(live);
}

/// `step`, until the connection is cut.
async fn uncut<T>(link: &Link, birth: Birth, step: impl Future<Output = Result<T, Reset>> + Send) -> Result<T, Reset> {
    let cut = async {
        wait(link, |settings| birth.is_cut(settings)).await;
        Err(Reset)
    };
    first([pin!(cut), pin!(step)]).await
}

/// Closes `stream` so that its peer sees a reset, and not an orderly end.
pub(super) fn reset(stream: TcpStream) {
    // Fails only for a stream that has been reset already.
    let _ = stream.set_zero_linger();
}

async fn carry(client: &mut TcpStream, target: &mut TcpStream, link: &Arc<Link>, birth: Birth) -> Result<(), Reset> {
    // The delays are ours to make. It fails for a stream that has been reset already.
    let _ = client.set_nodelay(true);
    let _ = target.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_target, to_target) = target.split();
    let up = Pump::new(Side::ToServer, from_client, to_target, link, birth);
    let down = Pump::new(Side::ToClient, from_target, to_client, link, birth);
    // Boxed: together they are larger than a task should copy around.
    both(Box::pin(up.run()), Box::pin(down.run())).await
}

async fn wait(link: &Link, condition: impl Fn(&Settings) -> bool) {
    let mut settings = link.settings.subscribe();
    settings.wait_for(condition).await.expect("the sender lives in `link`");
}
