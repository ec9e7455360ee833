//! One server for all tests that need nothing special.

use std::{env, sync::OnceLock, thread};

use tokio::runtime;

use crate::server::NatsServer;

/// The URL of a server with JetStream for tests that need nothing special.
///
/// Under `cargo xtask test` it is that run's server (`NATSTREAM_TEST_URL`), which all test
/// programs share. Otherwise the first call starts one for this process; it ends with the
/// process. Other tests use the same server at the same time: take names from
/// [`unique_subject`](crate::unique_subject) and [`unique_name`](crate::unique_name), and
/// assert nothing about the server as a whole.
///
/// The first call may block for a moment, about 0.2 s.
///
/// # Panics
///
/// When no server can be started, with what to do about it.
#[must_use]
pub fn shared_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        env::var("NATSTREAM_TEST_URL")
            .ok()
            .filter(|url| !url.is_empty())
            .unwrap_or_else(start)
    })
}

fn start() -> String {
    // Statics are never dropped: the watchdog ends this server when the process has gone.
    static SERVER: OnceLock<NatsServer> = OnceLock::new();

    // The caller may be inside a runtime, where another one must not block.
    let started = thread::spawn(|| {
        runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime with nothing but timers can be built")
            .block_on(NatsServer::builder().jetstream(true).try_start())
    })
    .join();
    match started {
        Ok(Ok(server)) => SERVER.get_or_init(|| server).url(),
        Ok(Err(error)) => panic!("{error}"),
        Err(panicked) => std::panic::resume_unwind(panicked),
    }
}
