//! Many keys at once: lists and histories.

use async_nats::subject::Subject;

use super::entry::Operation;
use super::key::Subjects;
use super::store::Decode;
use super::{Entry, Kv, KvError, KvErrorKind};
use crate::consume::{Begin, Delivered, Ordered, OrderedSpec};

/// Messages that are asked for at once.
pub(super) const SLOTS: usize = 1024;

impl<T> Kv<T> {
    /// All keys that have a value, by name. One that has a value all the time is among them, also where that changes meanwhile.
    ///
    /// Memory: the names.
    ///
    /// # Errors
    /// [`KvErrorKind`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn keys(&self) -> Result<Vec<String>, KvError> {
        self.keys_of(">").await
    }

    /// The keys that have a value and are of a filter, by name: `*` stands for one part between dots, `>` for all that follow.
    ///
    /// # Errors
    /// [`InvalidKey`](KvErrorKind::InvalidKey), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn keys_of(&self, filter: &str) -> Result<Vec<String>, KvError> {
        let mut keys = std::collections::BTreeSet::new();
        let mut found = self.ordered(filter, Begin::LastOfEach, true).await?;
        while let Some(message) = self.next(&mut found).await? {
            let key = self.inner.subjects.key(&message.subject).to_owned();
            // A key comes again where it was put meanwhile and another consumer had to go on.
            match Operation::read(message.headers.as_ref()) {
                Operation::Put => keys.insert(key),
                _ => keys.remove(&key),
            };
        }
        Ok(keys.into_iter().collect())
    }

    /// The entries of all keys of a filter that have a value, by key.
    ///
    /// Memory: the entries. [`watch`](Self::watch) gives them one by one.
    ///
    /// # Errors
    /// [`InvalidKey`](KvErrorKind::InvalidKey), [`Decode`](KvErrorKind::Decode), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn entries(&self, filter: &str) -> Result<Vec<Entry<T>>, KvError> {
        let mut entries = std::collections::BTreeMap::new();
        let mut found = self.ordered(filter, Begin::LastOfEach, false).await?;
        while let Some(message) = self.next(&mut found).await? {
            let entry = entry(&self.inner.subjects, self.decode, message)?;
            match entry.operation {
                Operation::Put => entries.insert(entry.key.clone(), entry),
                _ => entries.remove(&entry.key),
            };
        }
        Ok(entries.into_values().collect())
    }

    /// The revisions of a key that the bucket has, the oldest first, deletions included; nothing when there are none.
    ///
    /// # Errors
    /// [`InvalidKey`](KvErrorKind::InvalidKey), [`Decode`](KvErrorKind::Decode), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn history(&self, key: &str) -> Result<Vec<Entry<T>>, KvError> {
        self.inner.subjects.stored(key)?;
        let mut entries = Vec::new();
        let mut found = self.ordered(key, Begin::All, false).await?;
        while let Some(message) = self.next(&mut found).await? {
            entries.push(entry(&self.inner.subjects, self.decode, message)?);
        }
        Ok(entries)
    }

    pub(super) async fn ordered(&self, filter: &str, begin: Begin, headers_only: bool) -> Result<Ordered, KvError> {
        let spec = OrderedSpec {
            stream: self.inner.subjects.stream.clone(),
            filters: vec![self.inner.subjects.filter(filter)?],
            begin,
            headers_only,
            slots: SLOTS,
        };
        let ordered = Ordered::open(self.inner.connection.clone(), spec).await;
        ordered.map_err(|error| KvError::consume(self.bucket(), error))
    }

    async fn next(&self, found: &mut Ordered) -> Result<Option<Delivered>, KvError> {
        let next = found.next_there().await;
        next.map_err(|error| KvError::consume(self.bucket(), error))
    }
}

/// What a message says of its key.
pub(super) fn entry<T>(subjects: &Subjects, decode: Decode<T>, message: Delivered) -> Result<Entry<T>, KvError> {
    let Delivered {
        subject,
        headers,
        payload,
        sequence,
        stored_at,
    } = message;
    let operation = Operation::read(headers.as_ref());
    let key = key(subjects, &subject);
    let value = match operation {
        Operation::Put => Some(decode(payload).map_err(|error| {
            let error = KvError::codec(KvErrorKind::Decode, &subjects.bucket, &key, error);
            error.with_revision(Some(sequence))
        })?),
        _ => None,
    };
    Ok(Entry {
        key,
        value,
        revision: sequence,
        created: stored_at,
        operation,
    })
}

fn key(subjects: &Subjects, subject: &Subject) -> String {
    subjects.key(subject.as_str()).to_owned()
}
