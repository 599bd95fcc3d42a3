//! A throw-away PostgreSQL for tests: found by PG_CONFIG, pg_config, /usr/lib/postgresql or PATH; made in a temporary
//! folder; stopped and removed when the test process ends, however it ends.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// A running server.
#[derive(Debug)]
pub(crate) struct PostgresServer {
    port: u16,
    folder: PathBuf,
    binaries: PathBuf,
    // Ends the server when its standard input closes: a static is never dropped.
    _keeper: Child,
}

/// A database of its own for a test.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) port: u16,
    pub(crate) name: String,
}

/// The server that all tests of the binary share.
pub(crate) fn shared() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(PostgresServer::start)
}

/// A port of its own, below the range from which systems give ports away: a server that is stopped finds it free again.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    let first = std::process::id().wrapping_mul(97) % PORTS.len() as u32;
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from((first + step) % PORTS.len() as u32).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl PostgresServer {
    /// Makes and starts a server.
    pub(crate) fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// Makes and starts a server with settings of its own, which may name files that are put into its data folder.
    pub(crate) fn start_with(more: impl FnOnce(&Path) -> String) -> Self {
        let binaries = find_binaries();
        let folder = tempfile::Builder::new().prefix("towline-pg-").tempdir().unwrap().keep();
        let port = free_port();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder));
        }
        let data = folder.join("data");
        let password = folder.join("password");
        fs::write(&password, "sesame").unwrap();
        run(as_postgres(&binaries.join("initdb"))
            .args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8"])
            .args(["--locale=C", "--no-sync", "--pwfile"])
            .arg(&password)
            .arg("-D")
            .arg(&data));
        let settings = format!(
            "port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{}'\nfsync=off\n\
             full_page_writes=off\nmax_connections=200\nmax_prepared_transactions=5\n{}\n",
            folder.display(),
            more(&data)
        );
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres"]).arg(&data));
        }
        let file = data.join("postgresql.conf");
        let old = fs::read_to_string(&file).unwrap();
        fs::write(&file, old + &settings).unwrap();
        Self::run_in(port, folder, binaries)
    }

    fn run_in(port: u16, folder: PathBuf, binaries: PathBuf) -> Self {
        let data = folder.join("data");
        let stop = format!(
            "cat >/dev/null; {} stop -m immediate -D {} >/dev/null 2>&1; rm -rf {}",
            as_text(&binaries.join("pg_ctl")),
            data.display(),
            folder.display()
        );
        let keeper = Command::new("sh").args(["-c", &stop]).stdin(Stdio::piped()).spawn().unwrap();
        let server = Self { port, folder, binaries, _keeper: keeper };
        server.resume();
        server
    }

    /// Makes and starts a standby of this server.
    pub(crate) fn standby(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("towline-pg-").tempdir().unwrap().keep();
        let port = free_port();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder));
        }
        let data = folder.join("data");
        let primary = format!("host=127.0.0.1 port={} user=postgres password=sesame", self.port);
        run(as_postgres(&self.binaries.join("pg_basebackup"))
            .args(["-R", "-c", "fast", "--no-sync", "-d", &primary, "-D"])
            .arg(&data));
        let file = data.join("postgresql.conf");
        let old = fs::read_to_string(&file).unwrap();
        let own = format!("port={port}\nunix_socket_directories='{}'\n", folder.display());
        fs::write(&file, old + &own).unwrap();
        Self::run_in(port, folder, self.binaries.clone())
    }

    /// The same database, on this server.
    pub(crate) fn copy_of(&self, database: &Database) -> Database {
        Database { port: self.port, name: database.name.clone() }
    }

    fn control(&self, arguments: &[&str]) {
        let mut command = as_postgres(&self.binaries.join("pg_ctl"));
        command.arg("-D").arg(self.folder.join("data")).args(["-w", "-s", "-l"]).arg(self.folder.join("log"));
        run(command.args(arguments));
    }

    /// Starts the server again.
    pub(crate) fn resume(&self) {
        self.control(&["start"]);
    }

    /// Stops the server as a crash would.
    pub(crate) fn crash(&self) {
        self.control(&["stop", "-m", "immediate"]);
    }

    /// Makes a database with a name of its own.
    pub(crate) async fn database(&self) -> Database {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let admin = Database { port: self.port, name: "postgres".to_owned() };
        admin.run(&format!("CREATE DATABASE {name}")).await;
        Database { port: self.port, name }
    }
}

impl Database {
    /// The JDBC URL, without user and password.
    pub(crate) fn jdbc_url(&self) -> String {
        format!("jdbc:postgresql://127.0.0.1:{}/{}", self.port, self.name)
    }

    /// A connection of the superuser.
    pub(crate) async fn connect(&self) -> PgConnection {
        let url = format!("postgres://postgres:sesame@127.0.0.1:{}/{}", self.port, self.name);
        PgConnection::connect(&url).await.unwrap()
    }

    /// Runs statements.
    pub(crate) async fn run(&self, sql: &str) {
        self.connect().await.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    }

    /// The only value of a query, as text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let sql = format!("SELECT ({sql})::text");
        let value: Option<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.connect().await).await.unwrap();
        value.unwrap_or_else(|| "null".to_owned())
    }
}

fn find_binaries() -> PathBuf {
    let config = std::env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".to_owned());
    let told = Command::new(config).arg("--bindir").output().ok().filter(|output| output.status.success());
    let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let packaged =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let mut packaged: Vec<PathBuf> = packaged.collect();
    packaged.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = told.into_iter().chain(packaged.into_iter().rev()).chain(std::env::split_paths(&path));
    all.into_iter().find(|folder| folder.join("initdb").is_file()).expect("a PostgreSQL server is installed")
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn as_text(program: &Path) -> String {
    let runuser = if is_root() { "runuser -u postgres -- " } else { "" };
    format!("{runuser}{}", program.display())
}

/// Runs a program that has to work.
pub(crate) fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
