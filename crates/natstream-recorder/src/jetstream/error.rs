//! Why a stream cannot be recorded, or not any longer.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use eventbus::ConsumeError;
use eventbus::topology::TopologyError;
use stream_sinks::SinkError;

use crate::source::StreamSource;

/// Why a stream cannot be recorded, or not any longer. What was committed is in the files, and the next recording goes on
/// behind it.
#[derive(Clone, Debug)]
pub struct StreamRecordError {
    kind: StreamRecordErrorKind,
    cause: Arc<Cause>,
}

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamRecordErrorKind {
    /// What the directory has is not what would be recorded into it: another stream, one that was deleted and made again,
    /// another consumer or filter, or no stream at all.
    Foreign,
    /// Nothing in the directory was recorded from this stream.
    NotRecorded,
    /// The consumer is there, and is limited to other subjects than were asked for.
    OtherSubjects,
    /// The stream ends before what the files have: it has lost messages.
    StreamBehind,
    /// The stream: [`StreamRecordError::topology`] says what.
    Stream,
    /// The consumer: [`StreamRecordError::consume`] says what.
    Consumer,
    /// The files: [`StreamRecordError::sink`] says what.
    Sink,
    /// The directory, or what is noted in it, cannot be read or written.
    Manifest,
    /// The runtime has ended, or the task panicked.
    TaskEnded,
}

#[derive(Debug)]
enum Cause {
    Foreign {
        there: Option<StreamSource>,
        asked: StreamSource,
    },
    NotRecorded {
        stream: String,
    },
    OtherSubjects {
        asked: Vec<String>,
        there: Vec<String>,
    },
    StreamBehind {
        position: u64,
        last: u64,
    },
    Stream(TopologyError),
    Consumer(ConsumeError),
    Sink(SinkError),
    Manifest(io::Error),
    TaskEnded,
}

impl StreamRecordError {
    fn new(kind: StreamRecordErrorKind, cause: Cause) -> Self {
        Self {
            kind,
            cause: Arc::new(cause),
        }
    }

    pub(super) fn foreign(there: Option<StreamSource>, asked: StreamSource) -> Self {
        Self::new(StreamRecordErrorKind::Foreign, Cause::Foreign { there, asked })
    }

    pub(super) fn not_recorded(stream: &str) -> Self {
        let stream = stream.to_owned();
        Self::new(StreamRecordErrorKind::NotRecorded, Cause::NotRecorded { stream })
    }

    pub(super) fn other_subjects(asked: Vec<String>, there: Vec<String>) -> Self {
        Self::new(
            StreamRecordErrorKind::OtherSubjects,
            Cause::OtherSubjects { asked, there },
        )
    }

    pub(super) fn stream_behind(position: u64, last: u64) -> Self {
        Self::new(
            StreamRecordErrorKind::StreamBehind,
            Cause::StreamBehind { position, last },
        )
    }

    pub(super) fn manifest(error: io::Error) -> Self {
        Self::new(StreamRecordErrorKind::Manifest, Cause::Manifest(error))
    }

    pub(super) fn task_ended() -> Self {
        Self::new(StreamRecordErrorKind::TaskEnded, Cause::TaskEnded)
    }

    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> StreamRecordErrorKind {
        self.kind
    }

    /// What the files say.
    #[must_use]
    pub fn sink(&self) -> Option<&SinkError> {
        match &*self.cause {
            Cause::Sink(error) => Some(error),
            _ => None,
        }
    }

    /// What is wrong with the consumer.
    #[must_use]
    pub fn consume(&self) -> Option<&ConsumeError> {
        match &*self.cause {
            Cause::Consumer(error) => Some(error),
            _ => None,
        }
    }

    /// What is wrong with the stream.
    #[must_use]
    pub fn topology(&self) -> Option<&TopologyError> {
        match &*self.cause {
            Cause::Stream(error) => Some(error),
            _ => None,
        }
    }

    /// What the directory has, where that is [something else](StreamRecordErrorKind::Foreign), if it was recorded from a stream.
    #[must_use]
    pub fn recorded_before(&self) -> Option<&StreamSource> {
        match &*self.cause {
            Cause::Foreign { there, .. } => there.as_ref(),
            _ => None,
        }
    }
}

impl From<TopologyError> for StreamRecordError {
    fn from(error: TopologyError) -> Self {
        Self::new(StreamRecordErrorKind::Stream, Cause::Stream(error))
    }
}

impl From<ConsumeError> for StreamRecordError {
    fn from(error: ConsumeError) -> Self {
        Self::new(StreamRecordErrorKind::Consumer, Cause::Consumer(error))
    }
}

impl From<SinkError> for StreamRecordError {
    fn from(error: SinkError) -> Self {
        Self::new(StreamRecordErrorKind::Sink, Cause::Sink(error))
    }
}

impl fmt::Display for StreamRecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.cause {
            Cause::Foreign {
                there: Some(there),
                asked,
            } => write!(f, "the directory has what {there} gave, and this is {asked}"),
            Cause::Foreign { there: None, asked } => {
                write!(
                    f,
                    "the directory has files of which no stream is noted, and this is {asked}"
                )
            }
            Cause::NotRecorded { stream } => {
                write!(f, "nothing in the directory was recorded from stream `{stream}`")
            }
            Cause::OtherSubjects { asked, there } if there.is_empty() => {
                write!(
                    f,
                    "the consumer is there, and gives all subjects, not only {}",
                    asked.join(", ")
                )
            }
            Cause::OtherSubjects { asked, there } => {
                let (asked, there) = (asked.join(", "), there.join(", "));
                write!(f, "the consumer is there, and gives {there}, not {asked}")
            }
            Cause::StreamBehind { position, last } => write!(
                f,
                "the files have messages up to {position}, and the stream ends with {last}: it has lost some"
            ),
            Cause::Stream(_) => f.write_str("the stream cannot be looked at"),
            Cause::Consumer(_) => f.write_str("the consumer gives no messages"),
            Cause::Sink(_) => f.write_str("the files take no records"),
            Cause::Manifest(_) => f.write_str("the directory cannot be read, or what is noted in it cannot be written"),
            Cause::TaskEnded => f.write_str("the task of the recording has ended"),
        }
    }
}

impl Error for StreamRecordError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.cause {
            Cause::Stream(error) => Some(error),
            Cause::Consumer(error) => Some(error),
            Cause::Sink(error) => Some(error),
            Cause::Manifest(error) => Some(error),
            Cause::Foreign { .. }
            | Cause::NotRecorded { .. }
            | Cause::OtherSubjects { .. }
            | Cause::StreamBehind { .. }
            | Cause::TaskEnded => None,
        }
    }
}
