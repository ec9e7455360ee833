//! The handle of a Consul that is asked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::client::Questions;
use super::config::ConsulConfig;
use super::error::{ConsulError, ConsulErrorKind};
use super::watcher::{Findings, watch_over};

/// A Consul that is asked for the servers of one service.
///
/// It is a handle: clones share one task, which starts with the first question to the handle, runs on the runtime of whoever
/// asks, and ends when the last handle, the last [receiver](Self::servers) and the last connection that [was made with
/// it](crate::ConnectConfig::discover) are gone. The task has one question under way at any time.
///
/// # Examples
///
/// ```no_run
/// # use natstream_connect::consul::{Consul, ConsulConfig};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let consul = Consul::new(ConsulConfig::new("nats"))?;
/// println!("{:?}", consul.first().await?);
/// let mut servers = consul.servers();
/// while servers.changed().await.is_ok() {
///     println!("now {:?}", servers.borrow_and_update());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Consul {
    questions: Arc<Questions>,
    findings: Arc<Findings>,
    started: Arc<AtomicBool>,
    /// The task ends when nobody has one.
    servers: watch::Receiver<Arc<[String]>>,
}

impl Consul {
    /// Checks the settings, and reads the files of certificates, if there are any. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ConsulErrorKind::InvalidConfig) says which setting cannot work.
    pub fn new(config: ConsulConfig) -> Result<Self, ConsulError> {
        let questions = Arc::new(Questions::new(&config)?);
        let findings = Arc::new(Findings::default());
        Ok(Self {
            questions,
            servers: findings.servers.subscribe(),
            findings,
            started: Arc::default(),
        })
    }

    /// The servers that Consul has named last, or, when it has named none yet, the first that it names.
    ///
    /// They are URLs such as `nats://10.0.0.5:4222`, at least one.
    ///
    /// # Errors
    ///
    /// After at most the [timeout](ConsulConfig::timeout): what failed last. A failure that [may
    /// pass](ConsulError::is_retryable) is waited out until then, another one is returned at once.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops waiting.
    pub async fn first(&self) -> Result<Vec<String>, ConsulError> {
        self.start();
        let (mut servers, mut failure) = (self.servers.clone(), self.findings.failure.subscribe());
        let named = async {
            tokio::select! {
                biased;
                named = servers.wait_for(|servers| !servers.is_empty()) => named.map(|servers| servers.to_vec()).ok(),
                _ = failure.wait_for(|failure| failure.as_ref().is_some_and(|error| !error.is_retryable())) => None,
            }
        };
        if let Ok(Some(servers)) = timeout(self.questions.timeout(), named).await {
            return Ok(servers);
        }
        let failure = self.findings.failure.borrow().clone();
        Err(failure.unwrap_or_else(|| ConsulError::new(ConsulErrorKind::Timeout, "Consul did not answer in time")))
    }

    /// The servers that Consul names, as URLs such as `nats://10.0.0.5:4222`, sorted; empty until it has named some, and never
    /// again afterwards.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn servers(&self) -> watch::Receiver<Arc<[String]>> {
        self.start();
        let mut servers = self.servers.clone();
        servers.mark_unchanged();
        servers
    }

    /// Why Consul named nothing when it was asked last; `None` while all is well, and before it was asked.
    #[must_use]
    pub fn failure(&self) -> Option<ConsulError> {
        self.findings.failure.borrow().clone()
    }

    fn start(&self) {
        if !self.started.swap(true, Ordering::Relaxed) {
            let (questions, findings) = (self.questions.clone(), self.findings.clone());
            Handle::current().spawn(watch_over(questions, findings));
        }
    }
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul")
            .field("questions", &self.questions)
            .field("servers", &*self.servers.borrow())
            .field("failure", &*self.findings.failure.borrow())
            .finish_non_exhaustive()
    }
}
