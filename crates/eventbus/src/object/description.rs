//! What makes an object of chunks: one message for each name, which says what the name stands for.

use natstream_connect::token;

use super::info::encoded;
use super::store::Inner;
use super::{ObjectError, ObjectErrorKind, ObjectInfo};
use crate::error::PublishErrorKind;
use crate::event::Event;
use crate::topology::{Reads, Stored};

/// How many others may put the same name at the same moment, before it looks like a fault.
const RIVALS: u32 = 100;

/// The description of an object, with its number in the stream.
pub(super) struct Found {
    pub(super) info: ObjectInfo,
    pub(super) sequence: u64,
}

impl Inner {
    fn description(&self, name: &str) -> String {
        format!("$O.{}.M.{}", self.bucket, encoded(name))
    }

    /// What there is of a name, deleted or not.
    pub(super) async fn find(&self, name: &str, reads: Reads) -> Result<Option<Found>, ObjectError> {
        let found = self.topology.last(&self.stream, &self.description(name), reads).await;
        let Some(stored) = found.map_err(|error| self.topology_error(error).of(name))? else {
            return Ok(None);
        };
        let Stored {
            sequence,
            stored_at,
            payload,
            ..
        } = stored;
        let mut info = self.read(&payload).map_err(|error| error.of(name))?;
        info.modified = stored_at;
        Ok(Some(Found { info, sequence }))
    }

    pub(super) async fn expect(&self, name: &str) -> Result<Found, ObjectError> {
        self.check_name(name)?;
        let found = self.find(name, self.reads).await?;
        let found = found.filter(|found| !found.info.deleted);
        found.ok_or_else(|| self.error(ObjectErrorKind::NotFound, name))
    }

    /// Puts a description in place of the one that is there, and says which one that was: nobody else gets the same answer, so
    /// exactly one removes its chunks.
    pub(super) async fn publish_info(&self, info: &ObjectInfo) -> Result<Option<ObjectInfo>, ObjectError> {
        let payload = serde_json::to_vec(info);
        let payload =
            payload.map_err(|error| ObjectError::because(ObjectErrorKind::InvalidName, &self.bucket, error))?;
        let subject = self.description(&info.name);
        // Of what is there when an answer was lost, this tells the own copy.
        let id = token();
        let mut before = None;
        let mut may_be_stored = false;
        for _ in 0..RIVALS {
            let last = self.find_stored(&info.name, &subject).await;
            let last = last.map_err(|error| error.with_may_be_stored(may_be_stored))?;
            if last
                .as_ref()
                .is_some_and(|(_, own)| own.as_deref() == Some(id.as_str()))
            {
                return Ok(before);
            }
            let expected = last.as_ref().map_or(0, |(found, _)| found.sequence);
            before = last.map(|(found, _)| found.info).filter(|before| !before.deleted);
            let event = Event::new(subject.clone(), payload.clone())
                .server_header("Nats-Rollup", "sub")
                .expect_last_subject_sequence(expected)
                .message_id(&id);
            match self.bus.publish(event).await {
                // An attempt before was stored, and somebody else has replaced it since, and has removed its chunks. What
                // is there now is theirs.
                Ok(ack) if ack.is_duplicate => return Ok(None),
                Ok(_) => return Ok(before),
                Err(error) if error.kind() == PublishErrorKind::WrongLast => may_be_stored |= error.may_be_stored(),
                Err(error) => {
                    let error = ObjectError::publish(&self.bucket, error).of(&info.name);
                    return Err(error.with_may_be_stored(may_be_stored));
                }
            }
        }
        let error = self.error(ObjectErrorKind::Rejected, &info.name);
        Err(error.with_may_be_stored(may_be_stored))
    }

    async fn find_stored(&self, name: &str, subject: &str) -> Result<Option<(Found, Option<String>)>, ObjectError> {
        let found = self.topology.last(&self.stream, subject, Reads::Leader).await;
        let Some(stored) = found.map_err(|error| self.topology_error(error).of(name))? else {
            return Ok(None);
        };
        let id = stored.headers.get("Nats-Msg-Id").map(|id| id.as_str().to_owned());
        let found = Found {
            info: self.read(&stored.payload).map_err(|error| error.of(name))?,
            sequence: stored.sequence,
        };
        Ok(Some((found, id)))
    }
}
