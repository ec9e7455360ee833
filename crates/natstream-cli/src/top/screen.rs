//! The terminal: taken over, and given back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};

/// How often the thread that reads keys looks whether it is needed still.
const LOOK: Duration = Duration::from_millis(100);

/// Keys that wait; nobody types faster.
const WAITING: usize = 64;

/// The terminal in raw mode, with a screen of its own. Dropping it gives the terminal back, and so does a panic.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn open() -> Result<Self, Failure> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                // It may have come half-way.
                let _ = ratatui::try_restore();
                Err(failed(error, "the terminal cannot be used"))
            }
        }
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        match self.terminal.draw(draw) {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(error, "the terminal cannot be written to")),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may have gone.
        let _ = ratatui::try_restore();
    }
}

/// What is typed, and other events of the terminal.
#[derive(Debug)]
pub(super) struct Keys {
    events: mpsc::Receiver<io::Result<Event>>,
    is_over: Arc<AtomicBool>,
}

impl Keys {
    /// Begins to read; it is a blocking call, so a thread of the runtime does it.
    pub(super) fn read() -> Self {
        let (sender, events) = mpsc::channel(WAITING);
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        tokio::task::spawn_blocking(move || {
            while !stop.load(Ordering::Relaxed) {
                let event = match event::poll(LOOK) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let is_last = event.is_err();
                if sender.blocking_send(event).is_err() || is_last {
                    return;
                }
            }
        });
        Self { events, is_over }
    }

    /// The next event.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        match self.events.recv().await {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(failed(error, "the keyboard cannot be read")),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn failed(error: io::Error, what: &'static str) -> Failure {
    Failure::new(Exit::Failed, anyhow::Error::new(error).context(what))
}
