//! A throw-away PostgreSQL cluster: scram-sha-256 over TCP, on an address and port of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tempfile::TempDir;

use super::free_port;

pub const USER: &str = "tester";
pub const PASSWORD: &str = "tester-secret";

pub struct Postgres {
    pub host: String,
    pub port: u16,
    folder: TempDir,
    process: Option<Child>,
}

/// The folder of the server's programs.
fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let mut candidates: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
            .unwrap_or_default();
        candidates.sort();
        candidates.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect::<Vec<_>>());
        let found = candidates.into_iter().rev().find(|folder| folder.join("initdb").exists());
        found.expect("PostgreSQL server programs are needed: `make test` installs them")
    })
}

/// A command that runs as the user postgres where this process is root, because the server refuses root.
fn as_server_user(program: &Path) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn new_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("towline-pg-").tempdir().unwrap();
    let _ = Command::new("chown").arg("postgres").arg(folder.path()).output();
    folder
}

/// A cluster made once, copied for every server.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let folder = new_folder();
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let _ = Command::new("chmod").arg("a+r").arg(&password).output();
        run(as_server_user(&programs().join("initdb"))
            .arg("-D")
            .arg(folder.path().join("data"))
            .args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--pwfile"])
            .arg(&password));
        let path = folder.keep();
        path.join("data")
    })
}

impl Postgres {
    /// A new cluster on 127.0.0.1.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1", free_port("127.0.0.1")).await
    }

    /// A new cluster on an address of the loopback range.
    pub async fn start_at(host: &str, port: u16) -> Self {
        let template = template();
        let folder = new_folder();
        run(as_server_user(Path::new("cp")).arg("-a").arg(template).arg(folder.path().join("data")));
        let mut server = Self { host: host.to_owned(), port, folder, process: None };
        server.resume().await;
        server
    }

    /// Starts the server again after [`Self::stop`].
    pub async fn resume(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let mut command = as_server_user(&programs().join("postgres"));
        command.arg("-D").arg(self.folder.path().join("data"));
        let settings = [
            format!("listen_addresses={}", self.host),
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.folder.path().display()),
            "fsync=off".to_owned(),
            "full_page_writes=off".to_owned(),
            "shared_buffers=64MB".to_owned(),
            "max_connections=200".to_owned(),
        ];
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        while PgPool::connect_with(self.options("postgres")).await.is_err() {
            assert!(Instant::now() < deadline, "PostgreSQL did not start: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops the server at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new().host(&self.host).port(self.port).username(USER).password(PASSWORD).database(database)
    }

    /// Creates a database and connects to it.
    pub async fn database(&self, name: &str) -> PgPool {
        let admin = PgPool::connect_with(self.options("postgres")).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create database {name}"))).execute(&admin).await.unwrap();
        self.connect(name).await
    }

    /// Connects to a database.
    pub async fn connect(&self, name: &str) -> PgPool {
        PgPoolOptions::new().max_connections(4).connect_with(self.options(name)).await.unwrap()
    }

    /// The JDBC URL of a database.
    pub fn jdbc(&self, database: &str) -> String {
        format!("jdbc:postgresql://{}:{}/{database}", self.host, self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("--- PostgreSQL log, newest first ---\n{}", tail.join("\n"));
        }
        let _ = Command::new("rm").arg("-rf").arg(self.folder.path()).status();
    }
}
