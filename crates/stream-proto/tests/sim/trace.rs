//! What happened, in lines that people can read.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;

use stream_proto::Frame;

use crate::nats::Msg;
use crate::time::{Nanos, US};

/// Lines, if somebody wants them; a clone writes to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Option<Rc<RefCell<Vec<String>>>>);

impl Trace {
    pub(crate) fn on() -> Self {
        Self(Some(Rc::default()))
    }

    pub(crate) fn line(&self, now: Nanos, text: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            let (seconds, micros) = (now / 1_000_000_000, now / US % 1_000_000);
            lines.borrow_mut().push(format!("{seconds:4}.{micros:06}  {}", text()));
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.as_ref().map(|lines| lines.borrow().clone()).unwrap_or_default()
    }
}

/// One message in one line.
pub(crate) fn show(msg: &Msg) -> String {
    let mut text = format!("{} ", msg.subject);
    let frame = Frame::decode(&msg.payload);
    let _ = match (msg.status, frame) {
        (Some(status), _) => write!(text, "{status}"),
        (None, _) if msg.is_bare_empty() => write!(text, "bare empty"),
        (None, Ok(Frame::Unit(unit))) => {
            let end = unit.end();
            let fin = unit
                .fin
                .map(|(status, items)| format!(" FIN {} {items} items", status.code));
            write!(
                text,
                "UNIT {}..{end} {:08x}{}",
                unit.position,
                unit.sid,
                fin.unwrap_or_default()
            )
        }
        (
            None,
            Ok(Frame::Beat {
                sid,
                announce,
                position,
            }),
        ) => {
            write!(text, "BEAT {position} announce {announce} {sid:08x}")
        }
        (None, Ok(Frame::Reset { sid })) => write!(text, "RESET {sid:08x}"),
        (
            None,
            Ok(Frame::State {
                sid,
                rewind,
                next,
                limit,
            }),
        ) => {
            let rewind = if rewind { " REWIND" } else { "" };
            write!(text, "STATE{rewind} next {next} limit {limit} {sid:08x}")
        }
        (None, Ok(Frame::Close { sid, code })) => write!(text, "CLOSE {code:?} {sid:08x}"),
        (None, Ok(other)) => write!(text, "{other:?}"),
        (None, Err(_)) => write!(text, "{} bytes", msg.payload.len()),
    };
    if let Some(header) = &msg.header {
        let _ = write!(text, " (N: {header})");
    }
    if let Some(reply) = &msg.reply {
        let _ = write!(text, " ({reply})");
    }
    text
}
