//! A guard over a real nats-server process.

use std::{
    error::Error,
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{binary, cluster::Member, free_port::free_port, ports::Ports, watchdog::Watchdog};

/// How long a server may take to start or to stop; it takes about 0.2 s on an idle machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often we look whether it has.
const POLL: Duration = Duration::from_millis(5);

/// The name of the configuration in the server's directory.
const CONFIG: &str = "nats-server.conf";

/// How often a start tries other ports.
const ATTEMPTS: usize = 3;

/// A running nats-server of the test's own, on a free port of 127.0.0.1.
///
/// Dropping the guard kills the process and removes its directory. When the test process
/// itself is killed, a watchdog does the same.
///
/// # Examples
///
/// ```no_run
/// # async fn doc() {
/// let mut server = testkit::NatsServer::builder()
///     .jetstream(true)
///     .config("max_payload: 64KB")
///     .start()
///     .await;
/// server.kill(); // Its clients notice a lost connection …
/// server.restart().await; // … and find it again where it was, with its streams.
/// # }
/// ```
#[derive(Debug)]
pub struct NatsServer {
    // The order of the fields is the order of their drop: the watchdog may clean up `dir`,
    // and what it leaves is removed after it.
    process: Option<Child>,
    watchdog: Watchdog,
    dir: TempDir,
    options: NatsServerBuilder,
    binary: PathBuf,
    ports: Option<Ports>,
}

impl NatsServer {
    /// Starts a server with nothing special: no JetStream, no monitoring, a free port.
    ///
    /// # Panics
    ///
    /// When it does not start, with its log or with the command that provides one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the half-started server.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A server with options.
    pub fn builder() -> NatsServerBuilder {
        NatsServerBuilder {
            jetstream: false,
            monitoring: false,
            port: None,
            member: None,
            config: None,
        }
    }

    /// Kills the process (SIGKILL), as a crash or a power cut would. Does nothing when it is down.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Fails only if it has ended already.
            let _ = process.kill();
            let _ = process.wait();
            self.watchdog.release();
        }
    }

    /// Asks the process to stop (SIGTERM) and waits until it has. Does nothing when it is down.
    ///
    /// # Panics
    ///
    /// When it has not ended after 10 s.
    ///
    /// # Cancel safety
    ///
    /// The signal is sent at the first poll. Dropping the future later only stops waiting.
    pub async fn stop(&mut self) {
        if self.process.is_none() {
            return;
        }
        self.signal("TERM");
        self.ended(PATIENCE).await;
    }

    /// Waits until the process has ended: by itself, or after a signal.
    ///
    /// # Panics
    ///
    /// When it has not after `limit`, with its log.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops waiting.
    pub async fn ended(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            assert!(
                Instant::now() < deadline,
                "nats-server did not end within {limit:?}; its log:\n{}",
                self.log()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts the server again: same port, same configuration, same JetStream store.
    ///
    /// Stops it first when it is running.
    ///
    /// # Panics
    ///
    /// When it does not start, with its log.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the server running, starting or down.
    pub async fn restart(&mut self) {
        self.stop().await;
        if let Err(error) = self.launch().await {
            panic!("{error}");
        }
    }

    /// Tells the server to enter lame duck mode (SIGUSR2): it listens no longer, asks its clients
    /// to move elsewhere, closes their connections one by one, and ends.
    ///
    /// It begins to close after `lame_duck_grace_period` (10 s), and takes the rest of
    /// `lame_duck_duration` (2 min, 30 s at least) for it, but at most 1 s for each connection.
    /// With a short grace period in the [configuration](NatsServerBuilder::config), such as
    /// `lame_duck_grace_period: "100ms"`, few clients are gone in a moment. See [`ended`](Self::ended).
    pub fn lame_duck(&mut self) {
        self.signal("USR2");
    }

    /// Replaces the [configuration](NatsServerBuilder::config) and has the running server read it (SIGHUP).
    ///
    /// Returns when it has. Clients stay connected unless their user has gone; what they may do changes.
    ///
    /// # Panics
    ///
    /// When the server was started without a configuration, or refuses the new one, with its log.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops waiting.
    pub async fn reload(&mut self, config: impl Into<String>) {
        assert!(
            self.options.config.is_some(),
            "a server without a configuration has none to reload"
        );
        let config = config.into();
        let path = self.dir.path().join(CONFIG);
        fs::write(&path, &config).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        self.options.config = Some(config);
        let reloaded = |log: &str| log.matches("Reloaded server configuration").count();
        let before = reloaded(&self.log());
        self.signal("HUP");
        let deadline = Instant::now() + PATIENCE;
        while reloaded(&self.log()) == before {
            assert!(
                Instant::now() < deadline,
                "nats-server did not reload within {PATIENCE:?}; its log:\n{}",
                self.log()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Freezes the process (SIGSTOP): its connections stay open and nothing answers.
    ///
    /// Returns when it stands still. A paused server can be killed; to stop it, resume it first.
    ///
    /// # Panics
    ///
    /// When it does not stand still after 10 s.
    pub fn pause(&mut self) {
        self.signal("STOP");
        // Its threads stop one by one, after the signal was sent.
        let deadline = Instant::now() + PATIENCE;
        while !self.stands_still() {
            assert!(Instant::now() < deadline, "nats-server still moves after {PATIENCE:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&mut self) {
        self.signal("CONT");
    }

    /// Whether the process runs. Notices also that it ended by itself.
    pub fn is_running(&mut self) -> bool {
        let Some(process) = &mut self.process else {
            return false;
        };
        if matches!(process.try_wait(), Ok(None)) {
            return true;
        }
        self.process = None;
        self.watchdog.release();
        false
    }

    /// The URL for clients, `nats://127.0.0.1:PORT`. Stays the same across restarts.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }

    /// The port for clients. Stays the same across restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.started().client
    }

    /// The base URL of the monitoring pages, `http://127.0.0.1:PORT`.
    ///
    /// # Panics
    ///
    /// When the server was built without [`monitoring`](NatsServerBuilder::monitoring).
    #[must_use]
    pub fn monitoring_url(&self) -> String {
        match self.started().monitoring {
            Some(port) => format!("http://127.0.0.1:{port}"),
            None => panic!("build the server with `.monitoring(true)` to have a monitoring URL"),
        }
    }

    /// The process id of the server.
    ///
    /// # Panics
    ///
    /// When it is down after [`kill`](Self::kill) or [`stop`](Self::stop).
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.process {
            Some(process) => process.id(),
            None => panic!("the nats-server is down and has no pid"),
        }
    }

    /// The directory of the server's configuration, log and JetStream store.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the server has written to its log, over all restarts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Starts the process and returns once it talks to clients.
    async fn launch(&mut self) -> Result<(), StartError> {
        let ports_dir = self.dir.path().join("ports");
        let child = self
            .spawn(&ports_dir)
            .map_err(|error| self.error(format!("cannot start it: {error}")))?;
        self.watchdog.guard(child.id());
        self.process = Some(child);

        let deadline = Instant::now() + PATIENCE;
        loop {
            if !self.is_running() {
                return Err(self.error("it ended at once".to_owned()));
            }
            // The file comes when the server listens; INFO shows that it also serves.
            if let Some(ports) = Ports::read(&ports_dir)
                && let Some(info) = self.greeting(ports.client, deadline)
            {
                self.ports = Some(ports);
                self.forgotten(&info["client_id"], deadline).await;
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.kill();
                return Err(self.error(format!("it was not ready after {PATIENCE:?}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn spawn(&self, ports_dir: &Path) -> io::Result<Child> {
        let dir = self.dir.path();
        // A killed server leaves its ports file behind; it must not answer for the next one.
        if ports_dir.exists() {
            fs::remove_dir_all(ports_dir)?;
        }
        fs::create_dir(ports_dir)?;
        let log = File::options().create(true).append(true).open(dir.join("log"))?;

        let mut command = Command::new(&self.binary);
        // A restart takes the same ports. The first start takes free ones, and not those that the
        // server would find by itself (-1): they could be gone when it comes back.
        let port = self.ports.map(|ports| ports.client).or(self.options.port);
        let port = port.unwrap_or_else(free_port);
        command.args(["--addr", "127.0.0.1", "--port"]).arg(port.to_string());
        command.arg("--ports_file_dir").arg(ports_dir);
        if self.options.monitoring {
            let port = self.ports.and_then(|ports| ports.monitoring).unwrap_or_else(free_port);
            command.arg("--http_port").arg(port.to_string());
        }
        if self.options.jetstream {
            command.arg("--jetstream").arg("--store_dir").arg(dir.join("jetstream"));
        }
        if let Some(member) = &self.options.member {
            command.args(member.arguments());
        }
        if let Some(config) = &self.options.config {
            let path = dir.join(CONFIG);
            fs::write(&path, config)?;
            command.arg("--config").arg(path);
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C on `cargo test` is the watchdog's business.
            .process_group(0)
            .spawn()
    }

    /// What a client is greeted with on `port`, if it is.
    fn greeting(&self, port: u16, deadline: Instant) -> Option<Value> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        // Such a server waits for TLS first and greets nobody; that it listens must do.
        let config = self.options.config.as_deref().unwrap_or_default();
        if config.contains("handshake_first") {
            return Some(Value::Null);
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(POLL);
        let mut greeting = String::new();
        stream.set_read_timeout(Some(left)).ok()?;
        BufReader::new(stream).read_line(&mut greeting).ok()?;
        serde_json::from_str(greeting.strip_prefix("INFO ")?).ok()
    }

    /// Waits until the server has noticed that this client left, so that nobody counts it. Only
    /// the monitoring pages tell.
    async fn forgotten(&self, client: &Value, deadline: Instant) {
        if !self.options.monitoring || client.is_null() {
            return;
        }
        let page = format!("/connz?cid={client}");
        while Instant::now() < deadline {
            match self.try_page(&page).await {
                Ok(connections) if connections["num_connections"] == 1 => tokio::time::sleep(POLL).await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn signal(&mut self, name: &str) {
        if !self.is_running() {
            return;
        }
        // std sends SIGKILL only; the shell's own `kill` needs neither unsafe nor a dependency.
        // The pid is ours until we have waited for it, so no stranger is hit.
        let sent = Command::new("/bin/sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "signal", name, &self.pid().to_string()])
            .status();
        assert!(
            sent.as_ref().is_ok_and(|status| status.success()),
            "cannot send SIG{name} to nats-server: {sent:?}"
        );
    }

    /// Whether every thread of the process is stopped. Linux only; elsewhere it is taken for granted.
    fn stands_still(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid())) else {
            return true;
        };
        threads.flatten().all(|thread| {
            // The state follows the name, which stands in parentheses. A thread may end meanwhile.
            fs::read_to_string(thread.path().join("stat"))
                .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
        })
    }

    fn started(&self) -> Ports {
        self.ports.expect("only a server that has started leaves the builder")
    }

    fn error(&self, what: String) -> StartError {
        let log = self.log();
        let config = self.options.config.as_deref().unwrap_or("(none)");
        StartError(format!(
            "nats-server ({}): {what}\nits log:\n{log}\nits configuration:\n{config}",
            self.binary.display()
        ))
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Options of a [`NatsServer`].
#[derive(Clone, Debug)]
#[must_use = "a server starts with `.start().await`"]
pub struct NatsServerBuilder {
    jetstream: bool,
    monitoring: bool,
    port: Option<u16>,
    member: Option<Member>,
    config: Option<String>,
}

impl NatsServerBuilder {
    /// JetStream, with its store in the server's own directory. Default: off.
    pub fn jetstream(mut self, on: bool) -> Self {
        self.jetstream = on;
        self
    }

    /// The monitoring pages, on a free port. Default: off.
    ///
    /// With them, the runtime of the start needs I/O besides time.
    pub fn monitoring(mut self, on: bool) -> Self {
        self.monitoring = on;
        self
    }

    /// A fixed port for clients. Default: a free one, which is what tests that run side by
    /// side need.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// A node of a [`Cluster`](crate::Cluster).
    pub(crate) fn member(mut self, member: Member) -> Self {
        self.member = Some(member);
        self
    }

    /// Configuration in the server's own syntax: accounts, TLS, limits.
    ///
    /// Address, ports and store come from the other options and win over this text.
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Panics
    ///
    /// When it does not start, with its log or with the command that provides one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the half-started server.
    pub async fn start(self) -> NatsServer {
        match self.try_start().await {
            Ok(server) => server,
            Err(error) => panic!("{error}"),
        }
    }

    /// [`start`](Self::start) for tests of servers that must not start.
    ///
    /// # Errors
    ///
    /// When there is no nats-server, or it ends or is not ready within 10 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the half-started server.
    pub async fn try_start(self) -> Result<NatsServer, StartError> {
        let binary = binary::find().map_err(StartError)?;
        let dir = tempfile::Builder::new()
            .prefix("natstream-")
            .tempdir()
            .map_err(|error| StartError(format!("cannot create a directory: {error}")))?;
        let watchdog =
            Watchdog::new(dir.path()).map_err(|error| StartError(format!("cannot start /bin/sh: {error}")))?;
        let mut server = NatsServer {
            process: None,
            watchdog,
            dir,
            options: self,
            binary,
            ports: None,
        };
        let mut attempt = 1;
        loop {
            match server.launch().await {
                Ok(()) => return Ok(server),
                // Somebody else was faster; the next launch takes other ports.
                Err(error) if error.is_port_taken() && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Why a nats-server did not start: a text for people, with its log.
#[derive(Clone, Debug)]
pub struct StartError(String);

impl StartError {
    /// Whether somebody else listens on one of its ports.
    pub(crate) fn is_port_taken(&self) -> bool {
        self.0.contains("address already in use")
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for StartError {}
