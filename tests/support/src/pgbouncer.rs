//! A private pgbouncer before a PostgreSQL server, run by `deploy/local/postgres.sh` on a free port.
//!
//! However this process ends, it stops: its script waits for the end of a pipe that this process holds.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::postgres::Database;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Hands its clients connections to the server.
#[derive(Debug)]
pub struct Pgbouncer {
    address: SocketAddr,
    server: String,
    settings: Vec<String>,
    script: Option<Child>,
}

impl Pgbouncer {
    /// Starts one before the server of a database, with settings such as `pool_mode=transaction`.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(before: &Database, settings: &[&str]) -> Result<Self> {
        let (_, server) = before.url.rsplit_once('@').context("a URL with a user")?;
        let (server, _) = server.split_once('/').context("a URL with a database")?;
        let mut pgbouncer = Self {
            address: crate::free_address(),
            server: server.to_owned(),
            settings: settings.iter().map(|&it| it.to_owned()).collect(),
            script: None,
        };
        pgbouncer.start_again()?;
        Ok(pgbouncer)
    }

    /// The URL of a database through this.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        url.replace(&self.server, &self.address.to_string())
    }

    /// Starts it again, at the same address.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        let home = std::env::temp_dir().join(format!("groupmq-pgbouncer-{}", self.address.port()));
        fs::create_dir(&home)?;
        let users = ["groupmq", "groupmq_owner", "groupmq_worker"];
        let users = users.map(|user| format!("\"{user}\" \"\"\n"));
        fs::write(home.join("users"), users.concat())?;
        let mut script = Command::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../deploy/local/postgres.sh"
        ))
        .arg("pool")
        .arg(&home)
        .arg(self.address.port().to_string())
        .arg(&self.server)
        .args(&self.settings)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if script.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                bail!("pgbouncer does not answer; its log: {:?}", log(&home));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.script = Some(script);
        Ok(())
    }

    /// Stops it, cutting all connections.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&mut self) -> Result<()> {
        let mut script = self.script.take().context("pgbouncer does not run")?;
        // The end of its input is the sign to stop.
        drop(script.stdin.take());
        script.wait()?;
        Ok(())
    }
}

fn log(home: &Path) -> String {
    fs::read_to_string(home.join("log")).unwrap_or_default()
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        self.stop().ok();
    }
}
