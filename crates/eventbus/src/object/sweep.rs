//! What dead processes have left in a bucket.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{ObjectError, Objects};
use crate::consume::Begin;
use crate::topology::Reads;

/// What [`Objects::sweep`] has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Objects that were put in part, or replaced in part.
    pub uploads: u64,
    /// Their chunks.
    pub chunks: u64,
}

impl Objects {
    /// Removes chunks that belong to no object, and of which none was stored for so long.
    ///
    /// That time must be longer than any pause of somebody who is putting an object, or that object is spoilt: what it was to
    /// be is not there then, and whoever puts it gets [`Incomplete`](super::ObjectErrorKind::Incomplete). An hour is long. The
    /// clocks of this machine and of nats-server are compared.
    ///
    /// # Errors
    /// [`ObjectErrorKind`](super::ObjectErrorKind).
    ///
    /// # Cancel safety
    /// Dropped early, some are removed.
    pub async fn sweep(&self, quiet: Duration) -> Result<Swept, ObjectError> {
        let store = &self.inner;
        let prefix = store.chunks("");
        let mut found = BTreeSet::new();
        loop {
            let page = store
                .topology
                .subjects(&store.stream, &format!("{prefix}>"), found.len())
                .await;
            let page = page.map_err(|error| store.topology_error(error))?;
            let before = found.len();
            found.extend(page.into_keys());
            if found.len() == before {
                break;
            }
        }
        // Which are used is asked behind which there are: an object that is finished meanwhile is not taken for one that is not.
        let mut objects = store.ordered("M.>", Begin::LastOfEach, 1024).await?;
        while let Some(message) = objects.next_there().await.map_err(|error| store.consume(error))? {
            let info = store.read(&message.payload)?;
            if !info.deleted {
                found.remove(&store.chunks(&info.nuid));
            }
        }
        let mut swept = Swept::default();
        for subject in found {
            let last = store.topology.last(&store.stream, &subject, Reads::Leader).await;
            let Some(last) = last.map_err(|error| store.topology_error(error))? else {
                continue;
            };
            let age = Timestamp::now().duration_since(last.stored_at);
            if Duration::try_from(age).is_ok_and(|age| age >= quiet) {
                let purged = store.topology.purge(&store.stream, &subject).await;
                swept.chunks += purged.map_err(|error| store.topology_error(error))?;
                swept.uploads += 1;
            }
        }
        Ok(swept)
    }
}
