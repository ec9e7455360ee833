//! Streams of JetStream into files, exactly once.
//!
//! The sequence of a message is the key. The position, up to which everything is in the files, is in the journals and
//! manifests beside them, and never elsewhere; acks only follow it. So a recorder that starts asks its files where it is, and
//! the consumer to go there.
//!
//! `marks`: which message was which record; `gaps`: what did not come; `session`: the loop. `verifier` and `compared`: are the
//! files what the stream has?

mod compared;
mod error;
mod gaps;
mod marks;
mod recorder;
mod recording;
mod session;
mod stats;
mod verifier;

pub use self::compared::StreamCompared;
pub use self::error::{StreamRecordError, StreamRecordErrorKind};
pub use self::recorder::StreamRecorder;
pub use self::recording::{StreamEndReason, StreamRecording, StreamRecordingEnd};
pub use self::stats::StreamRecordingStats;
pub use self::verifier::{StreamVerified, StreamVerifier};
