//! From flags, files and environment to a running node, until a signal ends it. A flag beats the environment, the
//! environment a file, a file the default.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};
use towline_broker::{BrokerConfig, Endpoint};
use towline_connectors::api::{Error, Result};

use crate::cli::{Role, ServeArgs};
use crate::config::{from_environment, parse_properties};
use crate::node::{INTERNAL, Node, NodeConfig};
use crate::{connector_files, telemetry};

type Settings = BTreeMap<String, String>;

/// Where `towline up` listens if neither a flag nor the environment says otherwise.
const KAFKA: &str = "127.0.0.1:9092";

/// Where `towline up` keeps its data if nothing says otherwise.
const DATA_DIR: &str = "./towline-data";

/// Bare names that Debezium's image uses for worker settings.
const DEBEZIUM: &[(&str, &str)] = &[
    ("BOOTSTRAP_SERVERS", "bootstrap.servers"),
    ("GROUP_ID", "group.id"),
    ("CONFIG_STORAGE_TOPIC", "config.storage.topic"),
    ("OFFSET_STORAGE_TOPIC", "offset.storage.topic"),
    ("STATUS_STORAGE_TOPIC", "status.storage.topic"),
    ("KEY_CONVERTER", "key.converter"),
    ("VALUE_CONVERTER", "value.converter"),
    ("REST_PORT", "rest.port"),
    ("ADVERTISED_HOST_NAME", "rest.advertised.host.name"),
    ("OFFSET_FLUSH_INTERVAL_MS", "offset.flush.interval.ms"),
];

/// Starts what the arguments ask for and runs it until SIGINT or SIGTERM.
pub fn launch(args: &ServeArgs) -> ExitCode {
    telemetry::start(telemetry::LogFormat::from_environment());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(args));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("towline cannot start: {}", error.with_causes());
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &ServeArgs) -> Result<()> {
    let began = Instant::now();
    let config = node_config(args, &std::env::vars().collect())?;
    let (mut interrupt, mut terminate) = signals()?;
    let node = tokio::select! {
        node = Node::start(config) => node?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    announce(&node, began);
    let files = async {
        if let Some(herder) = node.herder() {
            // A file that cannot be applied now must not take down what runs.
            if let Err(error) = connector_files::apply(herder, args.connectors.as_deref(), &args.connector_files).await
            {
                tracing::error!("{}", error.with_causes());
            }
        }
        std::future::pending::<()>().await;
    };
    let code = tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
        () = files => 0,
    };
    tracing::info!("stopping; a second signal ends at once");
    tokio::select! {
        () = node.shutdown() => Ok(()),
        _ = interrupt.recv() => std::process::exit(code),
        _ = terminate.recv() => std::process::exit(code),
    }
}

fn signals() -> Result<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)> {
    let of = |kind| signal(kind).map_err(|e| Error::fatal("cannot listen for signals").caused_by(e));
    Ok((of(SignalKind::interrupt())?, of(SignalKind::terminate())?))
}

fn announce(node: &Node, began: Instant) {
    let took = began.elapsed();
    tracing::info!(?took, "started");
    let parts = [
        ("Kafka          ", "", node.kafka()),
        ("Schema registry", "http://", node.registry()),
        ("Kafka Connect  ", "http://", node.connect()),
        ("Status page    ", "http://", node.ui()),
    ];
    for (name, scheme, address) in parts {
        if let Some(address) = address {
            println!("{name}  {scheme}{address}");
        }
    }
}

/// What flags, files and environment together ask for.
fn node_config(args: &ServeArgs, environment: &Settings) -> Result<NodeConfig> {
    let variables = |prefix: &str| from_environment(prefix, environment.iter().map(|(k, v)| (k.clone(), v.clone())));
    let file = args.config.as_deref().map(read_properties).transpose()?.unwrap_or_default();
    let (with_broker, with_registry, with_connect) = match args.role {
        Role::Up => (true, true, true),
        Role::Broker => (true, false, false),
        Role::Registry => (false, true, false),
        Role::Connect => (false, false, true),
    };
    let mut config = NodeConfig::default();
    if with_broker {
        let mut settings = if args.role == Role::Broker { file.clone() } else { Settings::new() };
        settings.extend(variables("KAFKA_"));
        settings.extend(variables("KAFKA_CFG_"));
        settings.extend(environment.get("CLUSTER_ID").map(|id| ("cluster.id".to_owned(), id.clone())));
        config.broker = Some(broker_config(args, settings)?);
    }
    if with_registry {
        let mut settings = if args.role == Role::Registry { file.clone() } else { Settings::new() };
        settings.extend(variables("SCHEMA_REGISTRY_"));
        let default = if args.role == Role::Up { "127.0.0.1:8081" } else { "0.0.0.0:8081" };
        config.registry = Some(listener(args.registry.as_deref(), settings.get("listeners"), default));
        if args.role == Role::Registry {
            let named = settings.get("kafkastore.bootstrap.servers").or(settings.get("kafkastore.connection.url"));
            config.bootstrap_servers = args.bootstrap_servers.clone().or(named.map(|list| without_schemes(list)));
        }
        config.registry_settings = settings;
    }
    if with_connect {
        let mut settings = if args.role == Role::Connect { file } else { Settings::new() };
        let bare = |(name, key): &(&str, &str)| Some(((*key).to_owned(), environment.get(*name)?.clone()));
        if args.role == Role::Connect {
            settings.extend(DEBEZIUM.iter().filter_map(bare));
        }
        settings.extend(variables("CONNECT_"));
        let port = settings.get("rest.port").map(|port| format!("http://:{port}"));
        let default = if args.role == Role::Up { "127.0.0.1:8083" } else { "0.0.0.0:8083" };
        config.connect = Some(listener(args.connect.as_deref(), settings.get("listeners").or(port.as_ref()), default));
        if args.role == Role::Connect {
            config.bootstrap_servers = args.bootstrap_servers.clone().or(settings.get("bootstrap.servers").cloned());
            config.bootstrap_servers.get_or_insert_with(|| "localhost:9092".to_owned());
        } else {
            // In one process the worker and the registry use the broker beside them, whatever a shared environment
            // block says.
            settings.remove("bootstrap.servers");
        }
        config.worker = settings;
    }
    if args.role == Role::Up {
        config.ui = args.ui.clone();
    }
    Ok(config)
}

fn broker_config(args: &ServeArgs, mut settings: Settings) -> Result<BrokerConfig> {
    let has_folder = settings.contains_key("log.dirs") || settings.contains_key("log.dir");
    match &args.data_dir {
        // The flag's default says nothing against the environment.
        Some(folder) if !has_folder || folder != Path::new(DATA_DIR) => {
            let folder = if args.role == Role::Up { folder.join("kafka") } else { folder.clone() };
            settings.insert("log.dirs".to_owned(), folder.display().to_string());
        }
        None if !has_folder => {
            settings.insert("log.dirs".to_owned(), format!("{DATA_DIR}/kafka"));
        }
        _ => {}
    }
    let advertised = settings.get("advertised.listeners").cloned();
    match (args.kafka.as_deref().filter(|address| *address != KAFKA), settings.get("listeners"), advertised) {
        (Some(address), _, _) => settings.insert("listeners".to_owned(), format!("PLAINTEXT://{address}")),
        (None, Some(_), _) => None,
        (None, None, Some(advertised)) => settings.insert("listeners".to_owned(), on_all_addresses(&advertised)),
        (None, None, None) => settings.insert("listeners".to_owned(), format!("PLAINTEXT://{KAFKA}")),
    };
    settings.extend(args.overrides.iter().cloned());
    if args.role == Role::Broker {
        settings.entry("towline.clamp.replication.factor".to_owned()).or_insert_with(|| "false".to_owned());
    }
    let read = BrokerConfig::from_properties(&settings);
    let (mut broker, warnings) =
        read.map_err(|e| Error::config("the broker's settings cannot be used").caused_by(e))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if args.role == Role::Up && !broker.advertised_listeners.is_empty() {
        // Advertised names may mean nothing on this machine: the parts beside the broker get a listener of their own.
        broker.listeners.push(Endpoint { name: INTERNAL.to_owned(), host: "127.0.0.1".to_owned(), port: 0 });
    }
    Ok(broker)
}

/// Listeners for advertised ones, as the well-known images derive them: the same names and ports on all addresses.
fn on_all_addresses(advertised: &str) -> String {
    let listener = |one: &str| {
        let (name, address) = one.trim().split_once("://").unwrap_or(("PLAINTEXT", one.trim()));
        let port = address.rsplit(':').next().unwrap_or_default();
        format!("{name}://0.0.0.0:{port}")
    };
    advertised.split(',').map(listener).collect::<Vec<_>>().join(",")
}

/// The address of an HTTP server: the flag unless it only says the default, else the setting, else the default.
fn listener(flag: Option<&str>, setting: Option<&String>, default: &str) -> String {
    let setting = setting.map(|list| {
        let first = list.split(',').next().unwrap_or_default().trim();
        let address = first.split_once("://").map_or(first, |(_, address)| address).trim_end_matches('/');
        if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() }
    });
    match flag.filter(|flag| *flag != default) {
        Some(flag) => flag.to_owned(),
        None => setting.unwrap_or_else(|| default.to_owned()),
    }
}

/// `PLAINTEXT://broker:29092` as `broker:29092`.
fn without_schemes(list: &str) -> String {
    let bare = |one: &str| one.trim().split_once("://").map_or(one.trim(), |(_, address)| address).to_owned();
    list.split(',').map(bare).collect::<Vec<_>>().join(",")
}

fn read_properties(file: &Path) -> Result<Settings> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::config(format!("cannot read the settings in {}", file.display())).caused_by(error))?;
    Ok(parse_properties(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_follow_the_advertised_ones() {
        let advertised = "PLAINTEXT://broker:29092,PLAINTEXT_HOST://localhost:9092";
        assert_eq!(on_all_addresses(advertised), "PLAINTEXT://0.0.0.0:29092,PLAINTEXT_HOST://0.0.0.0:9092");
        assert_eq!(without_schemes("PLAINTEXT://broker:29092, b:1"), "broker:29092,b:1");
        let setting = "http://schema-registry:8081".to_owned();
        assert_eq!(listener(Some("127.0.0.1:8081"), Some(&setting), "127.0.0.1:8081"), "schema-registry:8081");
        assert_eq!(listener(Some("127.0.0.1:9"), Some(&setting), "127.0.0.1:8081"), "127.0.0.1:9");
    }
}
