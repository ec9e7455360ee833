//! `natstream record --stream`: from JetStream, exactly once.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use natstream::connect::check_subscribe_subject;
use natstream::eventbus::topology::ConsumerSpec;
use natstream::eventbus::{ConsumeError, ConsumeErrorKind};
use natstream::recorder::{
    StreamRecordError, StreamRecordErrorKind, StreamRecorder, StreamRecording, StreamRecordingEnd, StreamRecordingStats,
};
use natstream::sinks::Sync;
use serde_json::json;

use super::files::FileOptions;
use super::progress::{Figures, Progress};
use super::show;
use crate::bus;
use crate::console::Console;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::exposition::Exposition;
use crate::program::Context;
use crate::session;
use crate::size;

#[derive(Args, Debug)]
#[command(next_help_heading = "From JetStream")]
pub(super) struct StreamOptions {
    /// Record the messages of this stream, each once.
    #[arg(long, value_name = "STREAM", requires = "durable")]
    stream: Option<String>,
    /// Consumer of the stream; it is made if it is not there.
    #[arg(long, value_name = "NAME", requires = "stream")]
    durable: Option<String>,
    /// After how long nats-server delivers a message again that was not acked, of a consumer that is made.
    #[arg(long, value_name = "DUR", default_value = "30s", requires = "stream", value_parser = duration::parse_positive)]
    ack_wait: Duration,
    /// End when no message came for so long [default: never].
    #[arg(long, value_name = "DUR", requires = "stream", value_parser = duration::parse_positive)]
    idle_timeout: Option<Duration>,
}

/// What is recorded.
pub(super) struct Source {
    spec: ConsumerSpec,
    max_items: Option<u64>,
    idle_timeout: Option<Duration>,
}

impl StreamOptions {
    /// `None` when no stream is recorded.
    pub(super) fn source(self, subjects: Vec<String>, max_items: Option<u64>) -> Result<Option<Source>, Failure> {
        let (Some(stream), Some(durable)) = (self.stream, self.durable) else {
            return Ok(None);
        };
        for subject in &subjects {
            check_subscribe_subject(subject).map_err(|error| Failure::subject(subject, error))?;
        }
        Ok(Some(Source {
            spec: ConsumerSpec::new(stream, durable)
                .filters(subjects)
                .ack_wait(self.ack_wait),
            max_items,
            idle_timeout: self.idle_timeout,
        }))
    }
}

pub(super) async fn record(
    mut context: Context,
    source: Source,
    files: &FileOptions,
    exposition: &Exposition,
) -> Result<Exit, Failure> {
    let connection = session::connect(&context.connection, "natstream record", &mut context.interrupts).await?;
    exposition.add_connection(&connection);
    // A message must fit into the sink's buffer in any form: as JSON it may be six times as large.
    let buffer = connection.max_payload().saturating_mul(7).clamp(8 << 20, 1 << 30);
    let builder = files.builder(Sync::Commit).buffer(buffer);
    let mut recorder = StreamRecorder::new(builder, files.format());
    if let Some(count) = source.max_items {
        recorder = recorder.max_records(count);
    }
    if let Some(limit) = source.idle_timeout {
        recorder = recorder.idle_timeout(limit);
    }
    let stream = source.spec.stream().to_owned();
    let recording = tokio::select! {
        recording = recorder.record(connection.clone(), source.spec) => Arc::new(recording.map_err(failure)?),
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    };
    show(exposition, files.name(), &recording, recording.writer());
    let position = recording.stats().position;
    let dir = files.dir().display();
    context
        .console
        .progress(&format!("recording {stream} to {dir}, behind message {position}"));
    let mut progress = Progress::new(context.console);
    let end = tokio::select! {
        end = recording.ended() => end,
        signal = context.interrupts.next() => {
            exposition.drain();
            tracing::debug!(signal, "told to end");
            stop(&recording, &mut context).await?
        }
        () = progress.show(|| figures(&recording.stats()), recording.writer()) => unreachable!("it never ends"),
        // The recording ends by itself, too.
        () = session::tell_state(&connection, context.console) => recording.ended().await,
    };
    progress.clear();
    let is_closed = connection.state().borrow().is_closed();
    session::leave(&connection, &mut context.interrupts).await;
    let recorded = summarize(context.console, &end, &recording);
    match end {
        Err(_) if is_closed => Err(session::ended(&connection)),
        Err(error) => Err(failure(error)),
        Ok(_) => recorded,
    }
}

/// Ends it; a second signal ends the program at once.
async fn stop(
    recording: &StreamRecording,
    context: &mut Context,
) -> Result<Result<StreamRecordingEnd, StreamRecordError>, Failure> {
    tokio::select! {
        end = recording.stop() => Ok(end),
        signal = context.interrupts.next() => Err(session::interrupted(signal)
            .with_hint("the next recording closes the file in progress, and goes on behind what is safe")),
    }
}

fn figures(stats: &StreamRecordingStats) -> Figures {
    let mut rest = format!(", safe up to {}, {} to come", stats.position, stats.pending);
    if stats.missed > 0 {
        rest.push_str(&format!(", {} missed", stats.missed));
    }
    Figures {
        recorded: stats.recorded,
        bytes: stats.bytes,
        rest,
    }
}

fn summarize(
    console: Console,
    end: &Result<StreamRecordingEnd, StreamRecordError>,
    recording: &StreamRecording,
) -> Result<Exit, Failure> {
    let StreamRecordingStats {
        recorded,
        bytes,
        committed,
        position,
        missed,
        deleted,
        reconnects,
        ..
    } = recording.stats();
    let files = recording.writer().stats().files_closed;
    console.summary(
        || {
            let size = size::display(bytes as f64);
            let mut text =
                format!("recorded: {recorded} messages, {size}, {files} files; safe up to message {position}");
            for (count, what) in [
                (recorded - committed.min(recorded), "not safe, and not acked"),
                (missed, "missed"),
                (deleted, "deleted in the stream"),
                (reconnects, "reconnects"),
            ] {
                if count > 0 {
                    text.push_str(&format!("; {what}: {count}"));
                }
            }
            text
        },
        || {
            json!({
                "messages": recorded, "bytes": bytes, "files": files, "safe": committed, "position": position,
                "missed": missed, "deleted": deleted, "reconnects": reconnects,
                "confirmed": end.as_ref().is_ok_and(|end| end.confirmed),
            })
        },
    );
    match missed {
        0 => Ok(Exit::Complete),
        missed => Err(Failure::text(
            Exit::Incomplete,
            format!("{missed} messages were removed from the stream before they were recorded"),
        )),
    }
}

/// Why a stream cannot be recorded, or compared.
pub(super) fn failure(error: StreamRecordError) -> Failure {
    let (exit, hint) = match error.kind() {
        StreamRecordErrorKind::Foreign => (
            Exit::Usage,
            Some("another stream or consumer needs another directory or --name"),
        ),
        StreamRecordErrorKind::NotRecorded | StreamRecordErrorKind::OtherSubjects => (Exit::Usage, None),
        StreamRecordErrorKind::StreamBehind => (Exit::Lost, Some("`record verify` compares what both have")),
        StreamRecordErrorKind::Stream => (
            error.topology().map_or(Exit::Failed, topology_exit),
            error.topology().and_then(bus::topology_hint),
        ),
        StreamRecordErrorKind::Consumer => match error.consume().map(ConsumeError::kind) {
            Some(ConsumeErrorKind::InUse) => (Exit::Usage, Some("each recorder needs a consumer of its own")),
            Some(ConsumeErrorKind::NotPermitted) => (Exit::NotPermitted, Some(session::PERMISSIONS)),
            Some(ConsumeErrorKind::Closed) => (Exit::NoConnection, None),
            Some(ConsumeErrorKind::NotEnabled) => (Exit::NobodyAnswers, Some(bus::NOT_ENABLED)),
            Some(ConsumeErrorKind::Timeout) => (Exit::ClockRanOut, None),
            Some(ConsumeErrorKind::Invalid | ConsumeErrorKind::NotPull) => (Exit::Usage, None),
            _ => (Exit::Failed, None),
        },
        StreamRecordErrorKind::Sink => match error.sink() {
            Some(sink) => return sink.clone().into(),
            None => (Exit::Incomplete, None),
        },
        StreamRecordErrorKind::Manifest => (Exit::Incomplete, None),
        _ => (Exit::Failed, None),
    };
    Failure {
        hint: hint.map(str::to_owned),
        ..Failure::new(exit, error)
    }
}

fn topology_exit(error: &natstream::eventbus::topology::TopologyError) -> Exit {
    use natstream::eventbus::topology::TopologyErrorKind;
    match error.kind() {
        TopologyErrorKind::Connection => Exit::NoConnection,
        TopologyErrorKind::NotEnabled => Exit::NobodyAnswers,
        TopologyErrorKind::Timeout => Exit::ClockRanOut,
        _ => Exit::Failed,
    }
}
