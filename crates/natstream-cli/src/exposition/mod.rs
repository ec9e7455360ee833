//! `--metrics`: what Prometheus and probes ask for, over HTTP.

mod http;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use natstream::Connection;
use natstream::metrics::{describe, observe};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::http::{Answer, Question};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// How often what histograms were given is put into its buckets: it takes memory until then.
const UPKEEP: Duration = Duration::from_secs(5);

/// Who asks, and who gets the answer, has so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions that are answered at a time; others wait.
const AT_A_TIME: usize = 64;

/// How long nobody is let in after that has failed: there may be no descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// From half a millisecond, a call on a near network, to a minute.
const BUCKETS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

#[derive(Args, Debug)]
pub(crate) struct MetricsArgs {
    /// Answer to GET /metrics (Prometheus), /healthz and /readyz on this address, HOST:PORT or :PORT (all addresses); with port 0
    /// standard error has the one that was taken [default: nowhere].
    #[arg(long = "metrics", value_name = "ADDR", value_parser = address)]
    address: Option<String>,
}

/// What is shown. Dropped, it goes on: it ends with the program.
pub(crate) struct Exposition {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    metrics: PrometheusHandle,
    parts: Mutex<Vec<Part>>,
    is_draining: AtomicBool,
}

type Part = Arc<dyn Fn() -> bool + Send + Sync>;

impl MetricsArgs {
    /// Begins to answer, if that is asked for. Before there is anything to be measured.
    pub(crate) async fn start(&self, console: Console) -> Result<Exposition, Failure> {
        let Some(address) = &self.address else {
            return Ok(Exposition { shared: None });
        };
        let cannot = |error| {
            let text = format!("metrics cannot be shown on `{address}`");
            Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let local: SocketAddr = listener.local_addr().map_err(cannot)?;
        let shared = Arc::new(Shared {
            metrics: record()?,
            parts: Mutex::default(),
            is_draining: AtomicBool::new(false),
        });
        #[expect(clippy::disallowed_methods, reason = "one task for all who ask")]
        tokio::spawn(serve(listener, shared.clone()));
        console.progress(&format!("metrics on http://{local}/metrics"));
        Ok(Exposition { shared: Some(shared) })
    }
}

/// Has metrics recorded from now on.
fn record() -> Result<PrometheusHandle, Failure> {
    let builder = PrometheusBuilder::new().set_buckets(&BUCKETS);
    let builder = builder.map_err(|error| Failure::new(Exit::Failed, error))?;
    let recorder = builder.build_recorder();
    let metrics = recorder.handle();
    // Whoever calls `main` twice in a process keeps the first.
    let _ = metrics::set_global_recorder(recorder);
    describe();
    Ok(metrics)
}

impl Exposition {
    /// Shows something too: `look` hands over its figures, and says whether it is ready.
    pub(crate) fn add(&self, look: impl Fn() -> bool + Send + Sync + 'static) {
        if let Some(shared) = &self.shared {
            shared.parts.lock().push(Arc::new(look));
        }
    }

    /// Shows the connection of the command.
    pub(crate) fn add_connection(&self, connection: &Connection) {
        let connection = connection.clone();
        self.add(move || {
            observe("main", &connection);
            connection.state().borrow().is_connected()
        });
    }

    /// From now on it is not ready: it ends.
    pub(crate) fn drain(&self) {
        if let Some(shared) = &self.shared {
            shared.is_draining.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

impl Shared {
    /// Brings all figures up to date, and says whether everything is ready. What is not there yet is not ready: there is a
    /// connection, and what is done on it.
    fn look(&self) -> bool {
        let parts = self.parts.lock().clone();
        // All of them, whatever the first one says.
        let ready = parts.iter().filter(|part| part()).count();
        ready >= 2 && ready == parts.len() && !self.is_draining.load(Ordering::Acquire)
    }

    fn answer(&self, question: &Question) -> Answer {
        if !question.is_get {
            return Answer::text(405, "only GET is answered\n");
        }
        match question.path.as_str() {
            "/metrics" => {
                self.look();
                Answer::metrics(self.metrics.render())
            }
            "/healthz" => Answer::text(200, "it lives\n"),
            "/readyz" if self.look() => Answer::text(200, "it is ready\n"),
            "/readyz" => Answer::text(503, "it is not ready\n"),
            _ => Answer::text(404, "there are /metrics, /healthz and /readyz\n"),
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let mut upkeep = interval(UPKEEP);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accept = async {
            // It is never closed.
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accept => accepted,
            _ = upkeep.tick() => {
                shared.metrics.run_upkeep();
                continue;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "somebody who asks for metrics was not let in");
                sleep(PAUSE).await;
                continue;
            }
        };
        let shared = shared.clone();
        #[expect(clippy::disallowed_methods, reason = "one task for each who asks")]
        tokio::spawn(async move {
            let _place = place;
            match timeout(PATIENCE, answer(stream, &shared)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a question for metrics was not answered"),
                Err(_) => tracing::debug!("a question for metrics took too long"),
            }
        });
    }
}

async fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let answer = match http::read(&mut stream).await? {
        Some(question) => {
            let is_head = question.is_head;
            shared.answer(&question).bytes(is_head)
        }
        None => Answer::text(400, "that is no HTTP\n").bytes(false),
    };
    http::write(&mut stream, &answer).await
}

/// `HOST:PORT`, or `:PORT` for all addresses of the machine.
fn address(text: &str) -> Result<String, String> {
    let wrong = || "it is HOST:PORT, or :PORT".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if port.parse::<u16>().is_err() || is_bare_v6 || host.contains(['/', '@', ' ']) {
        return Err(wrong());
    }
    Ok(match host {
        "" => format!("0.0.0.0:{port}"),
        _ => text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for text in ["127.0.0.1:9090", "localhost:0", "[::1]:80"] {
            assert_eq!(address(text).as_deref(), Ok(text));
        }
        assert_eq!(address(":0").as_deref(), Ok("0.0.0.0:0"));
        for text in [
            "",
            "9090",
            "localhost",
            "localhost:",
            "a:70000",
            "::1:80",
            "http://a:80",
            "a:b",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
