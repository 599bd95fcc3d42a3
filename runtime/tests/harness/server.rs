//! A `towline up` process and its REST API.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{eventually, free_port};

/// How to start.
#[derive(Default)]
pub struct TowlineOptions {
    /// Host names for the process, as lines of a hosts file; needs the right to mount.
    pub hosts: Option<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
}

pub struct Towline {
    folder: TempDir,
    options: TowlineOptions,
    process: Option<Child>,
    pub kafka: String,
    pub registry: String,
    pub connect: String,
    ui: String,
    client: reqwest::Client,
}

impl Towline {
    pub async fn start() -> Self {
        Self::start_with(TowlineOptions::default()).await
    }

    pub async fn start_with(options: TowlineOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("towline-test-").tempdir().unwrap();
        let address = || format!("127.0.0.1:{}", free_port("127.0.0.1"));
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let (kafka, registry, connect, ui) = (address(), address(), address(), address());
        let mut server = Self { folder, options, process: None, kafka, registry, connect, ui, client };
        server.resume().await;
        server
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The command that starts the server.
    pub fn command(&self) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_towline"));
        let mut command = match &self.options.hosts {
            None => Command::new(binary),
            Some(hosts) => {
                let file = self.folder.path().join("hosts");
                std::fs::write(&file, hosts).unwrap();
                let mut command = Command::new("unshare");
                let mount = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", file.display());
                let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
                command.args(if root { &["--mount"][..] } else { &["--mount", "--map-root-user"][..] });
                command.args(["--", "sh", "-c", &mount]).arg(binary);
                command
            }
        };
        command.arg("up").arg("--data-dir").arg(self.data_dir());
        command.args(["--kafka", &self.kafka, "--registry", &self.registry]);
        command.args(["--connect", &self.connect, "--ui", &self.ui]);
        // `scripts/test.sh` runs the pipelines' tests over the other adapter too.
        if let Ok(adapter) = std::env::var("TOWLINE_TEST_ADAPTER") {
            command.env("CONNECT_TOWLINE_KAFKA_ADAPTER", adapter);
        }
        command.envs(self.options.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        command
    }

    /// Starts the process, again if it was killed, and waits until the worker answers.
    pub async fn resume(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.command();
        self.process = Some(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let url = format!("http://{}/", self.connect);
        eventually("the worker's answer", || async {
            self.client.get(&url).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut process = self.process.take()?;
        Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
        process.wait().unwrap().code()
    }

    /// A request to the worker.
    pub async fn rest(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        self.request(method, &format!("http://{}{path}", self.connect), body.map(Value::to_string)).await
    }

    /// A request to the registry.
    pub async fn registry(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        self.request(method, &format!("http://{}{path}", self.registry), body.map(Value::to_string)).await
    }

    /// A request with a body as it is.
    pub async fn request(&self, method: Method, url: &str, body: Option<String>) -> (StatusCode, Value) {
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// POSTs a connector, expecting 201.
    pub async fn create(&self, name: &str, config: Value) -> Value {
        let (status, body) =
            self.rest(Method::POST, "/connectors", Some(&json!({"name": name, "config": config}))).await;
        assert_eq!(status, StatusCode::CREATED, "{body:#}");
        body
    }

    /// The status of a connector.
    pub async fn status(&self, name: &str) -> Value {
        self.rest(Method::GET, &format!("/connectors/{name}/status"), None).await.1
    }

    /// Waits until a task of the connector has this state; its status.
    pub async fn task_in_state(&self, name: &str, state: &str) -> Value {
        let what = format!("a {state} task of {name}");
        let path = format!("/connectors/{name}/status");
        eventually(&what, || async {
            let (_, status) = self.rest(Method::GET, &path, None).await;
            let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
            tasks.into_iter().find(|task| task["state"] == state)
        })
        .await
    }

    /// Runs a tool of the binary; its exit code and output.
    pub fn tool(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_towline")).args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }
}

impl Drop for Towline {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- towline log, newest first ---\n{}", tail.join("\n"));
        } else {
            assert!(!self.log().contains("panicked at"), "a panic in the log:\n{}", self.log());
        }
    }
}
