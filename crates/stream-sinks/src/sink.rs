//! The interface of sinks.

use std::pin::Pin;

use crate::{Record, SinkError};

/// What has become of records.
///
/// Records are numbered from 0 in the order in which the sink accepted them; [`append`](RecordSink::append) gives the
/// number. Both counts only grow.
///
/// | `sync` | [`survive_kill`](Self::survive_kill) after `flush` | [`survive_power_loss`](Self::survive_power_loss) after `flush` |
/// |---|---|---|
/// | `None` | all | none but those it counts: it stays 0 |
/// | `Interval` | all | all that were synced so far |
/// | `Commit` | all | all |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// How many records survive the death of this process: those with a lower number are handed over to the operating
    /// system.
    pub survive_kill: u64,
    /// How many records survive a power loss: those with a lower number are on the disk, as far as the disk says so.
    pub survive_power_loss: u64,
}

/// Where records go.
///
/// # Cancel safety
/// Dropping a future of `append` before it is ready means that the record was not accepted. Dropping one of `flush` loses
/// nothing but the receipt.
pub trait RecordSink: Send + 'static {
    /// Accepts a record, and gives its number. Waits while the buffer is full.
    ///
    /// An accepted record is in memory; [`flush`](Self::flush) tells when it is more than that.
    ///
    /// # Errors
    /// [`Storage`](crate::SinkErrorKind::Storage): the storage fails at the moment, and the record was not accepted.
    /// [`TooLarge`](crate::SinkErrorKind::TooLarge), [`Closed`](crate::SinkErrorKind::Closed).
    fn append(&mut self, record: Record<'_>) -> impl Future<Output = Result<u64, SinkError>> + Send;

    /// Writes what was accepted so far, and tells what is durable.
    ///
    /// # Errors
    /// [`Storage`](crate::SinkErrorKind::Storage): an attempt failed. What was accepted is kept, and tried again.
    fn flush(&mut self) -> impl Future<Output = Result<Receipt, SinkError>> + Send;

    /// Writes what was accepted, and closes the file.
    ///
    /// # Errors
    /// [`Storage`](crate::SinkErrorKind::Storage): it failed for too long;
    /// [`unwritten`](SinkError::unwritten) records are lost.
    fn close(self) -> impl Future<Output = Result<Receipt, SinkError>> + Send
    where
        Self: Sized;
}

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`RecordSink`] as an object: `Box<dyn DynRecordSink>`. Every sink is one.
///
/// It costs an allocation a call; sinks that are known at compile time are faster.
pub trait DynRecordSink: Send + 'static {
    /// See [`RecordSink::append`].
    fn append_boxed<'a>(&'a mut self, record: Record<'a>) -> BoxFuture<'a, Result<u64, SinkError>>;

    /// See [`RecordSink::flush`].
    fn flush_boxed(&mut self) -> BoxFuture<'_, Result<Receipt, SinkError>>;

    /// See [`RecordSink::close`].
    fn close_boxed(self: Box<Self>) -> BoxFuture<'static, Result<Receipt, SinkError>>;
}

impl<S: RecordSink> DynRecordSink for S {
    fn append_boxed<'a>(&'a mut self, record: Record<'a>) -> BoxFuture<'a, Result<u64, SinkError>> {
        Box::pin(self.append(record))
    }

    fn flush_boxed(&mut self) -> BoxFuture<'_, Result<Receipt, SinkError>> {
        Box::pin(self.flush())
    }

    fn close_boxed(self: Box<Self>) -> BoxFuture<'static, Result<Receipt, SinkError>> {
        Box::pin(async move { (*self).close().await })
    }
}

impl RecordSink for Box<dyn DynRecordSink> {
    async fn append(&mut self, record: Record<'_>) -> Result<u64, SinkError> {
        (**self).append_boxed(record).await
    }

    async fn flush(&mut self) -> Result<Receipt, SinkError> {
        (**self).flush_boxed().await
    }

    async fn close(self) -> Result<Receipt, SinkError> {
        self.close_boxed().await
    }
}
