//! The process that answers.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::Peer;
use super::{async_nats, natstream, raw};
use crate::role::serve;

/// A responder of one peer.
#[derive(Args, Debug)]
pub(crate) struct Options {
    url: String,
    peer: Peer,
    /// On which NATS carries it.
    subject: String,
    /// Of the queue group.
    members: usize,
    /// 0: that of the library.
    window: usize,
}

/// Serves until standard input ends.
pub(crate) async fn run(options: Options) -> Result<()> {
    let Options {
        url,
        peer,
        subject,
        members,
        window,
    } = options;
    let mut servers = Vec::new();
    let reach = match peer {
        Peer::Natstream => {
            servers = natstream::respond(&url, &subject, members, (window > 0).then_some(window)).await?;
            url
        }
        Peer::AsyncNats | Peer::Request => {
            async_nats::respond(&url, &subject, peer == Peer::Request).await?;
            url
        }
        #[cfg(feature = "peers")]
        Peer::Tonic | Peer::TonicChannel => super::tonic::respond().await?,
        Peer::Raw => {
            raw::respond(&url, &subject)?;
            url
        }
    };
    serve(&reach, |task: Value| async { Ok(task) }).await?;
    drop(servers);
    Ok(())
}
