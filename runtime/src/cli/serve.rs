//! Commands that start servers: their flags, and the one place where they meet the rest of the runtime.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::pairs;

/// What to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything in one process.
    Up,
    /// The broker.
    Broker,
    /// A Connect worker.
    Connect,
    /// A schema registry.
    Registry,
}

/// What to start and how, whatever command said so. `None` leaves it to the config file, the environment or the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeArgs {
    /// What to start.
    pub role: Role,
    /// The folder that holds everything.
    pub data_dir: Option<PathBuf>,
    /// Where the broker listens, HOST:PORT.
    pub kafka: Option<String>,
    /// Where the registry listens, HOST:PORT.
    pub registry: Option<String>,
    /// Where Connect's REST API listens, HOST:PORT.
    pub connect: Option<String>,
    /// Where the web page listens, HOST:PORT.
    pub ui: Option<String>,
    /// A folder of connector configs to apply at the start.
    pub connectors: Option<PathBuf>,
    /// The cluster that a worker or registry uses.
    pub bootstrap_servers: Option<String>,
    /// server.properties, worker.properties or the registry's file.
    pub config: Option<PathBuf>,
    /// Connectors' .properties files, for `connect-standalone`.
    pub connector_files: Vec<PathBuf>,
    /// Settings that beat the file.
    pub overrides: Vec<(String, String)>,
    /// Go on in the background.
    pub daemon: bool,
}

impl ServeArgs {
    fn of(role: Role) -> Self {
        Self {
            role,
            data_dir: None,
            kafka: None,
            registry: None,
            connect: None,
            ui: None,
            connectors: None,
            bootstrap_servers: None,
            config: None,
            connector_files: Vec::new(),
            overrides: Vec::new(),
            daemon: false,
        }
    }
}

/// Starts what the arguments say and returns when it has stopped.
pub(super) fn serve(args: &ServeArgs) -> ExitCode {
    crate::launch::launch(args)
}

/// `towline up`.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// The folder that holds everything.
    #[arg(long, default_value = "./towline-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT", value_parser = address)]
    kafka: String,
    /// Where the schema registry listens.
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "HOST:PORT", value_parser = address)]
    registry: String,
    /// Where Connect's REST API listens.
    #[arg(long, default_value = "127.0.0.1:8083", value_name = "HOST:PORT", value_parser = address)]
    connect: String,
    /// Where the web page listens.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT", value_parser = address)]
    ui: String,
    /// A folder of connector configs (JSON) to apply at the start.
    #[arg(long, value_name = "DIR")]
    connectors: Option<PathBuf>,
}

impl From<UpArgs> for ServeArgs {
    fn from(args: UpArgs) -> Self {
        Self {
            data_dir: Some(args.data_dir),
            kafka: Some(args.kafka),
            registry: Some(args.registry),
            connect: Some(args.connect),
            ui: Some(args.ui),
            connectors: args.connectors,
            ..Self::of(Role::Up)
        }
    }
}

/// `towline broker`.
#[derive(Debug, Args)]
pub(super) struct BrokerArgs {
    /// The folder that holds the logs.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    kafka: Option<String>,
    /// A server.properties file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting that beats the file; may be repeated.
    #[arg(long = "override", value_name = "KEY=VALUE", value_parser = pairs::parse)]
    overrides: Vec<(String, String)>,
}

impl From<BrokerArgs> for ServeArgs {
    fn from(args: BrokerArgs) -> Self {
        Self {
            data_dir: args.data_dir,
            kafka: args.kafka,
            config: args.config,
            overrides: args.overrides,
            ..Self::of(Role::Broker)
        }
    }
}

/// `towline connect`.
#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    /// The cluster to use.
    #[arg(long, alias = "bootstrap-server", value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// Where the REST API listens.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    connect: Option<String>,
    /// A worker.properties file.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// A worker.properties file.
    file: Option<PathBuf>,
    /// A folder of connector configs (JSON) to apply at the start.
    #[arg(long, value_name = "DIR")]
    connectors: Option<PathBuf>,
}

impl From<ConnectArgs> for ServeArgs {
    fn from(args: ConnectArgs) -> Self {
        Self {
            bootstrap_servers: args.bootstrap_servers,
            connect: args.connect,
            config: args.config.or(args.file),
            connectors: args.connectors,
            ..Self::of(Role::Connect)
        }
    }
}

/// `towline registry`.
#[derive(Debug, Args)]
pub(super) struct RegistryArgs {
    /// The cluster to use.
    #[arg(long, alias = "bootstrap-server", value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// Where to listen.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    registry: Option<String>,
    /// A schema-registry.properties file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl From<RegistryArgs> for ServeArgs {
    fn from(args: RegistryArgs) -> Self {
        Self {
            bootstrap_servers: args.bootstrap_servers,
            registry: args.registry,
            config: args.config,
            ..Self::of(Role::Registry)
        }
    }
}

/// `kafka-server-start.sh`.
#[derive(Debug, Args)]
pub(super) struct ServerStartArgs {
    /// Go on in the background.
    #[arg(long)]
    daemon: bool,
    /// A server.properties file.
    file: PathBuf,
    /// A setting that beats the file; may be repeated.
    #[arg(long = "override", value_name = "KEY=VALUE", value_parser = pairs::parse)]
    overrides: Vec<(String, String)>,
}

impl From<ServerStartArgs> for ServeArgs {
    fn from(args: ServerStartArgs) -> Self {
        Self { config: Some(args.file), overrides: args.overrides, daemon: args.daemon, ..Self::of(Role::Broker) }
    }
}

/// `connect-distributed.sh` and `connect-standalone.sh`.
#[derive(Debug, Args)]
pub(super) struct WorkerStartArgs {
    /// Go on in the background.
    #[arg(long)]
    daemon: bool,
    /// A worker.properties file.
    file: PathBuf,
    /// Connectors' .properties files.
    connectors: Vec<PathBuf>,
}

impl From<WorkerStartArgs> for ServeArgs {
    fn from(args: WorkerStartArgs) -> Self {
        Self {
            config: Some(args.file),
            connector_files: args.connectors,
            daemon: args.daemon,
            ..Self::of(Role::Connect)
        }
    }
}

/// `schema-registry-start`.
#[derive(Debug, Args)]
pub(super) struct RegistryStartArgs {
    /// Go on in the background.
    #[arg(long)]
    daemon: bool,
    /// A schema-registry.properties file.
    file: PathBuf,
}

impl From<RegistryStartArgs> for ServeArgs {
    fn from(args: RegistryStartArgs) -> Self {
        Self { config: Some(args.file), daemon: args.daemon, ..Self::of(Role::Registry) }
    }
}

/// A `HOST:PORT` to listen on.
fn address(text: &str) -> Result<String, String> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains(':') && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err(format!("'{text}' is not of the form HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Work, sorted};
    use super::*;

    fn parse(line: &str) -> ServeArgs {
        match sorted(Cli::try_parse_from(line.split(' ')).unwrap().command) {
            Work::Serve(args) => *args,
            Work::Tool(command) => panic!("{command:?}"),
        }
    }

    #[test]
    fn up_has_defaults_and_the_scripts_map_onto_roles() {
        let up = parse("towline up");
        assert_eq!(
            (up.role, up.kafka.as_deref(), up.ui.as_deref()),
            (Role::Up, Some("127.0.0.1:9092"), Some("127.0.0.1:8080"))
        );
        let broker = parse("towline kafka-server-start --daemon s.properties --override a=b --override c=d");
        assert_eq!((broker.role, broker.daemon, broker.overrides.len()), (Role::Broker, true, 2));
        assert_eq!(broker.config, Some(PathBuf::from("s.properties")));
        let worker = parse("towline connect-standalone w.properties a.properties b.properties");
        assert_eq!((worker.role, worker.connector_files.len()), (Role::Connect, 2));
        assert_eq!(parse("towline schema-registry-start r.properties").role, Role::Registry);
        assert_eq!(parse("towline connect w.properties").config, parse("towline connect --config w.properties").config);
    }

    #[test]
    fn addresses_need_a_port() {
        assert!(address("localhost:9092").is_ok() && address("[::1]:9092").is_ok());
        assert!(address("localhost").is_err() && address(":9092").is_err() && address("a:b").is_err());
    }
}
