//! A real Prometheus reads a real worker, with our rules, and answers the dashboard's queries.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, Worker};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::observability::{alerts, dashboard};
use super::tools::{repository, run};

/// A machine that compiles at the same time is slow.
const PATIENCE: Duration = Duration::from_mins(1);

/// Killed when it is dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = groupmq_test_support::free_address();
        // JSON is YAML.
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [repository("deploy/observability/alerts.yaml")],
            "scrape_configs": [{
                "job_name": "groupmq",
                "static_configs": [{"targets": [target.to_string()]}],
            }],
        });
        let file = folder.path().join("prometheus.yaml");
        std::fs::write(&file, config.to_string()).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}; `make test` installs it"));
        Self {
            process,
            address,
            _folder: folder,
        }
    }

    /// What its API answers, once it answers.
    async fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    async fn query(&self, query: &str) -> Value {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let answer = self.get(&format!("/api/v1/query?query={query}")).await;
        answer.unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn a_real_prometheus_reads_a_worker_and_answers_the_dashboard() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let options = Options::new(env!("CARGO_BIN_EXE_groupmq"), &broker.url(), &prefix);
    let mut worker = Worker::start(&options).await.unwrap();
    let prometheus = Prometheus::start(worker.health());
    // Until there are two measurements of a command, between which there is a rate.
    let begun = Instant::now();
    loop {
        run(&mut options.command(&["send", "ListGroups"]));
        let rate = "sum(rate(groupmq_commands_total{outcome=\"ok\"}[10s])) > 0";
        if !prometheus.query(rate).await["data"]["result"][0].is_null() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "Prometheus sees no commands");
    }
    let mut shown = 0;
    for query in dashboard() {
        let query = query.replace("$__rate_interval", "10s");
        let answer = prometheus.query(&query).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        shown += usize::from(!answer["data"]["result"][0].is_null());
    }
    // Those that need the broker's metrics, or something that has gone wrong, show nothing.
    assert!(shown >= 15, "only {shown} graphs show something");
    let rules = prometheus.get("/api/v1/rules").await.unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), alerts().len());
    for rule in rules {
        assert_ne!(rule["health"], "err", "{rule}");
        assert_ne!(rule["state"], "firing", "{rule}");
    }
    assert_eq!(worker.stop().await.unwrap(), 0);
}
