//! A private PostgreSQL server, run by `deploy/local/postgres.sh` on a free port, with its data in a
//! temporary folder.
//!
//! [`Postgres::shared`] is for tests that merely use a database: each takes one of its own
//! ([`Postgres::database`]). [`Postgres::start`] is for tests that stop and start the server.
//!
//! However this process ends, the server stops and its folder is removed: its script waits for the
//! end of a pipe that this process holds.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Names the URL of a server to share, `postgres://user:password@host/postgres`, whose user may
/// create databases: `make test` starts one with `deploy/local/postgres.sh with`.
const SHARED_SERVER: &str = "GROUPMQ_TEST_POSTGRES";

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server, or the name of one.
#[derive(Debug)]
pub struct Postgres {
    /// Everything before the database's name.
    base: String,
    /// Held for its drop; `None` if the server is another process's.
    server: Option<Server>,
}

/// An empty database. Dropping it drops it in the server too, where that is to live on.
#[derive(Debug)]
pub struct Database {
    /// Where it is.
    pub url: String,
    name: String,
    /// The server that somebody else keeps.
    outlives: Option<String>,
}

#[derive(Debug)]
struct Server {
    home: PathBuf,
    port: u16,
    script: Option<Child>,
}

impl Postgres {
    /// Creates a server and waits until it answers: about two seconds.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed or does not start; the message has the end of its log.
    pub fn start() -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let home = std::env::temp_dir().join(format!("groupmq-postgres-{}", unique()));
        fs::create_dir(&home)?;
        let mut server = Server {
            home,
            port,
            script: None,
        };
        server.start()?;
        Ok(Self {
            base: format!("postgres://groupmq@127.0.0.1:{port}"),
            server: Some(server),
        })
    }

    /// The server that tests share: the one of `make test` where there is one, otherwise one per
    /// test process. It cannot be stopped through this.
    ///
    /// # Errors
    ///
    /// As [`Postgres::start`].
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
        let start = || match std::env::var_os(SHARED_SERVER) {
            Some(url) => Self::at(&url),
            None => Self::start(),
        };
        match SHARED.get_or_init(|| start().map_err(|error| format!("{error:#}"))) {
            Ok(server) => Ok(server),
            Err(error) => bail!("{error}"),
        }
    }

    fn at(url: &OsStr) -> Result<Self> {
        let wanted = "must be like postgres://user:password@host/postgres";
        let url = url.to_str().unwrap_or_default();
        let base = url.rsplit_once('/').map(|(base, _)| base);
        let base = base.filter(|base| base.contains("://"));
        Ok(Self {
            base: base
                .with_context(|| format!("{SHARED_SERVER} {wanted}"))?
                .to_owned(),
            server: None,
        })
    }

    /// Creates an empty database.
    ///
    /// # Errors
    ///
    /// When the server does not let us.
    pub fn database(&self) -> Result<Database> {
        let name = format!("groupmq_{}", unique());
        run_sql(&self.base, &format!("CREATE DATABASE {name}"))?;
        Ok(Database {
            url: format!("{}/{name}", self.base),
            name,
            outlives: self.server.is_none().then(|| self.base.clone()),
        })
    }

    /// Closes all connections to a database, as an administrator would.
    ///
    /// # Errors
    ///
    /// When the server does not let us.
    pub fn cut_connections(&self, database: &Database) -> Result<()> {
        let name = &database.name;
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        run_sql(&self.base, &sql)
    }

    /// Stops a server of one's own, cutting all its connections; its data stay.
    ///
    /// # Errors
    ///
    /// When it is not ours or not running.
    pub fn stop(&mut self) -> Result<()> {
        let server = self.server.as_mut();
        server
            .context("the server is not ours to stop")?
            .end("keep")
    }

    /// Kills a server of one's own with all its processes (SIGKILL), as the kernel does when memory
    /// runs out; its data stay as they are.
    ///
    /// # Errors
    ///
    /// When it is not ours or not running.
    pub fn kill(&mut self) -> Result<()> {
        let server = self.server.as_mut();
        server
            .context("the server is not ours to kill")?
            .end("kill")
    }

    /// Changes a setting of a server of one's own, for connections that are open too.
    ///
    /// # Errors
    ///
    /// When it is not ours or does not answer.
    pub fn set(&self, setting: &str, value: &str) -> Result<()> {
        ensure!(self.server.is_some(), "the server is not ours to change");
        // Each outside a transaction, as the server demands.
        run_sql(&self.base, &format!("ALTER SYSTEM SET {setting} = {value}"))?;
        run_sql(&self.base, "SELECT pg_reload_conf()")
    }

    /// Has the server ask a role for its password; the others still need none.
    ///
    /// # Errors
    ///
    /// When the server is not ours or does not answer.
    pub fn ask_for_password(&self, role: &str) -> Result<()> {
        ensure!(self.server.is_some(), "the server is not ours to change");
        let base = format!("{}/postgres", self.base);
        let file = psql(&base, &["-c", "SHOW hba_file"])?;
        let lines = format!(
            "COPY (VALUES ('host all {role} 127.0.0.1/32 scram-sha-256'), \
             ('host all all 127.0.0.1/32 trust')) TO '{file}'"
        );
        run_sql(&self.base, &lines)?;
        run_sql(&self.base, "SELECT pg_reload_conf()")
    }

    /// Takes every connection that a role may have, until they are dropped.
    ///
    /// # Errors
    ///
    /// When the server is not ours or does not answer.
    pub fn exhaust(&self, role: &str) -> Result<Vec<TcpStream>> {
        let server = self.server.as_ref().context("the server is not ours")?;
        let mut taken = Vec::new();
        while let Some(connection) = bare_connection(server.port, role)? {
            taken.push(connection);
        }
        Ok(taken)
    }

    /// Starts a stopped server again, on the same port.
    ///
    /// # Errors
    ///
    /// When it is not ours or does not start.
    pub fn start_again(&mut self) -> Result<()> {
        let server = self.server.as_mut();
        server.context("the server is not ours to start")?.start()
    }
}

impl Database {
    /// Runs statements as the server's administrator, each in a transaction of its own where it needs one.
    ///
    /// # Errors
    ///
    /// When one fails.
    pub fn run(&self, statements: &[&str]) -> Result<String> {
        let arguments: Vec<_> = statements.iter().flat_map(|sql| ["-c", sql]).collect();
        psql(&self.url, &arguments)
    }

    /// The same database, for another role.
    #[must_use]
    pub fn as_role(&self, login: &str) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or_default();
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        format!("{scheme}://{login}@{place}")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(base) = &self.outlives {
            // A leftover database does no harm, so a failure is not worth failing a test.
            run_sql(base, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).ok();
        }
    }
}

impl Server {
    fn start(&mut self) -> Result<()> {
        let port = self.port.to_string();
        let mut script = script()
            .arg("serve")
            .arg(&self.home)
            .arg(&port)
            .stdin(Stdio::piped())
            // Inherited, they would keep the test's own pipes open while the server stops.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let begun = Instant::now();
        while !script_says_ready(&port)? {
            if script.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.home.join("log"));
                bail!("PostgreSQL does not answer; its log: {log:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.script = Some(script);
        Ok(())
    }

    /// Ends the server as the script's word says; its data stay.
    fn end(&mut self, how: &str) -> Result<()> {
        let mut script = self.script.take().context("the server is not running")?;
        let mut input = script.stdin.take().context("the script has no input")?;
        writeln!(input, "{how}")?;
        script.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut script) = self.script.take() {
            // The end of its input is the sign to stop.
            drop(script.stdin.take());
            script.wait().ok();
        }
        // Already gone, unless the server was stopped before.
        fs::remove_dir_all(&self.home).ok();
    }
}

fn script() -> Command {
    Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/local/postgres.sh"
    ))
}

fn script_says_ready(port: &str) -> Result<bool> {
    Ok(script().args(["ready", port]).status()?.success())
}

fn run_sql(base: &str, sql: &str) -> Result<()> {
    psql(&format!("{base}/postgres"), &["-c", sql]).map(drop)
}

/// Runs `psql` as an operator does, each `-c` outside a transaction; what it prints is without frills.
///
/// # Errors
///
/// When a statement fails.
pub fn psql(url: &str, arguments: &[&str]) -> Result<String> {
    let psql = script()
        .args([
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
        ])
        .args(["-v", "ON_ERROR_STOP=1", "-d", url])
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&psql.stderr);
    ensure!(psql.status.success(), "psql: {said}");
    Ok(String::from_utf8_lossy(&psql.stdout).trim().to_owned())
}

/// A connection as a role, of which the server knows no more than that; `None` where it has none left.
fn bare_connection(port: u16, role: &str) -> Result<Option<TcpStream>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let body = format!("\0\x03\0\0user\0{role}\0database\0postgres\0\0");
    let length = u32::try_from(body.len() + 4)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(body.as_bytes())?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length))?.saturating_sub(4)];
        stream.read_exact(&mut body)?;
        match kind {
            b'Z' => return Ok(Some(stream)),
            b'E' => return Ok(None),
            _ => {}
        }
    }
}

/// Part of a name that no other test and no other process has.
fn unique() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let started = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{}_{}_{number}", std::process::id(), started.as_millis())
}
