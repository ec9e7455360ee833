//! What changes in a bucket.

use std::fmt;

use futures_util::Stream;
use futures_util::stream::unfold;

use super::key::Subjects;
use super::read::entry;
use super::store::Decode;
use super::{Entry, Kv, KvError, KvErrorKind};
use crate::consume::{Begin, Ordered};

/// What a [`Watch`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change<T> {
    /// A value that there is, or a key that has changed.
    Entry(Entry<T>),
    /// All that there was when it began has been given, or what was put in its place; from here on there are changes. Said once.
    Current,
}

/// The changes of a bucket, in the order of their revisions.
///
/// It survives lost connections, elections and restarts of nats-server: another consumer goes on behind the last revision that
/// was given. So the last revision of each key always comes; older ones come as far as the bucket still has them.
///
/// Memory: at most 1024 changes that were not taken yet, and about 8 MiB: nats-server is asked for no more.
pub struct Watch<T> {
    ordered: Ordered,
    subjects: Subjects,
    decode: Decode<T>,
    /// It has said that it is current.
    is_current: bool,
    is_over: bool,
}

impl<T> Kv<T> {
    /// The last revision of each key of a filter, deletions included, then [`Change::Current`], then what changes.
    ///
    /// `*` stands for one part of a key between dots, `>` for all that follow.
    ///
    /// # Errors
    /// [`InvalidKey`](KvErrorKind::InvalidKey), [`NotFound`](KvErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn watch(&self, filter: &str) -> Result<Watch<T>, KvError> {
        self.begin_watch(filter, Begin::LastOfEach).await
    }

    /// As [`watch`](Self::watch), without what there is: [`Change::Current`] comes first.
    ///
    /// What is put after this has returned is given.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn watch_changes(&self, filter: &str) -> Result<Watch<T>, KvError> {
        self.begin_watch(filter, Begin::New).await
    }

    /// As [`watch`](Self::watch), with all revisions that the bucket still has, from this one on.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn watch_from(&self, filter: &str, revision: u64) -> Result<Watch<T>, KvError> {
        self.begin_watch(filter, Begin::At(revision)).await
    }

    async fn begin_watch(&self, filter: &str, begin: Begin) -> Result<Watch<T>, KvError> {
        let ordered = self.ordered(filter, begin, false).await?;
        Ok(Watch {
            is_current: false,
            ordered,
            subjects: self.inner.subjects.clone(),
            decode: self.decode,
            is_over: false,
        })
    }
}

impl<T> Watch<T> {
    /// What comes next. It waits for whatever heals by itself.
    ///
    /// # Errors
    /// [`Decode`](KvErrorKind::Decode): a value cannot be read; the next call gives what comes after it. Everything else ends
    /// it: [`Replaced`](KvErrorKind::Replaced), [`NotFound`](KvErrorKind::NotFound) 10 s after the bucket was deleted,
    /// [`Connection`](KvErrorKind::Connection), [`NotPermitted`](KvErrorKind::NotPermitted).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Change<T>, KvError> {
        let next = match self.is_current {
            false => self.ordered.next_there().await,
            true => self.ordered.next().await.map(Some),
        };
        let next = next.map_err(|error| KvError::consume(&self.subjects.bucket, error))?;
        let Some(message) = next else {
            self.is_current = true;
            return Ok(Change::Current);
        };
        entry(&self.subjects, self.decode, message).map(Change::Entry)
    }

    /// The same as a stream, which ends behind the first error that is not [`Decode`](KvErrorKind::Decode).
    pub fn into_stream(self) -> impl Stream<Item = Result<Change<T>, KvError>> {
        unfold(self, |mut watch| async move {
            if watch.is_over {
                return None;
            }
            let next = watch.next().await;
            watch.is_over = matches!(&next, Err(error) if error.kind() != KvErrorKind::Decode);
            Some((next, watch))
        })
    }
}

impl<T> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("bucket", &self.subjects.bucket)
            .field("is_current", &self.is_current)
            .field("ordered", &self.ordered)
            .finish_non_exhaustive()
    }
}
