//! The writer's thread.

use std::{io, sync::Arc, thread};

use crate::{
    clock::timestamp,
    committer::{Closed, Committer},
    janitor::Janitor,
    queue::Work,
    shared::Shared,
};

/// Starts the thread, which ends when the sink was closed, or the last handle dropped, and all is written.
pub(crate) fn spawn(shared: Arc<Shared>, committer: Committer, janitor: Janitor, left: Vec<Closed>) -> io::Result<()> {
    let clock = Arc::clone(&shared.clock);
    if !clock.runs() {
        let weak = Arc::downgrade(&shared);
        clock.on_change(Box::new(move || {
            if let Some(shared) = weak.upgrade() {
                shared.look_at_clock();
            }
        }));
    }
    // The name that tools show has at most 15 bytes.
    let thread = thread::Builder::new().name("stream-sink".into());
    thread.spawn(move || run(&End(shared), committer, &janitor, left))?;
    Ok(())
}

fn run(end: &End, mut committer: Committer, janitor: &Janitor, left: Vec<Closed>) {
    let shared = &end.0;
    shared.own_thread();
    janitor.start(left);
    loop {
        match shared.next_work() {
            Work::Run(order) => {
                let done = order.run(&mut committer, timestamp(shared.clock.now()));
                shared.set_current_file(committer.current_file());
                let closed = committer.take_closed();
                if !closed.is_empty() {
                    janitor.submit(closed);
                }
                if done.ends(&shared.queue()) {
                    // Whoever waits for the end waits for the hooks too, and may open another writer.
                    janitor.wait();
                    committer.unlock();
                }
                shared.complete(done);
            }
            // It waits by itself.
            Work::Wait(_) => {}
            Work::End => return,
        }
    }
}

/// Tells waiters that the thread has gone, also when it panics.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}
