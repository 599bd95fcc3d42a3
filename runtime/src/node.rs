//! Starts and stops everything in one visible order: listeners, broker, registry and worker; and back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use towline_broker::{Broker, BrokerConfig};
use towline_connectors::api::{Error, ErrorKind, Result};
use towline_registry::{Options, Registry};

use crate::config::WorkerConfig;
use crate::herder::Herder;
use crate::kafka::Kafka;
use crate::kafka::cluster::Cluster;
use crate::kafka::embedded::Embedded;
use crate::status_page::{self, StatusPage};
use crate::{registry_log, rest};

/// Name of the broker's listener for the parts beside it.
pub const INTERNAL: &str = "TOWLINE_INTERNAL";

/// The worker's key that says how the broker of the same process is reached.
const ADAPTER: &str = "towline.kafka.adapter";

/// Which parts to run, and where.
#[derive(Debug, Clone, Default)]
pub struct NodeConfig {
    /// The embedded broker's settings; none to run without it.
    pub broker: Option<BrokerConfig>,
    /// The registry's address; none to run without it.
    pub registry: Option<String>,
    /// The worker's address; none to run without it.
    pub connect: Option<String>,
    /// The status page's address; none to run without it.
    pub ui: Option<String>,
    /// The Kafka cluster of registry and worker; the embedded broker if not set.
    pub bootstrap_servers: Option<String>,
    /// Worker settings.
    pub worker: BTreeMap<String, String>,
    /// Registry settings (`kafkastore.topic` and so on).
    pub registry_settings: BTreeMap<String, String>,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    broker: Option<Broker>,
    registry: Option<SocketAddr>,
    connect: Option<SocketAddr>,
    kafka: Option<SocketAddr>,
    /// Where the parts beside the broker reach it.
    internal: Option<SocketAddr>,
    ui: Option<SocketAddr>,
    herder: Option<Herder>,
    work: Stage,
    servers: Stage,
    logs: Stage,
}

/// Tasks that end together.
#[derive(Debug, Default)]
struct Stage {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Stage {
    async fn end(&self, what: &str, patience: Duration) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(patience, self.tracker.wait()).await.is_err() {
            tracing::warn!("{what} did not end in time");
        }
    }
}

impl Node {
    /// Starts the parts; answers once every port answers.
    ///
    /// # Errors
    /// What could not be started, why, and what to do.
    pub async fn start(config: NodeConfig) -> Result<Self> {
        let registry = bind(config.registry.as_deref(), "registry", "--registry").await?;
        let connect = bind(config.connect.as_deref(), "Connect REST API", "--connect").await?;
        let ui = bind(config.ui.as_deref(), "status page", "--ui").await?;
        let mut node = Self {
            broker: None,
            ui: ui.as_ref().and_then(|l| l.local_addr().ok()),
            herder: None,
            registry: registry.as_ref().and_then(|l| l.local_addr().ok()),
            connect: connect.as_ref().and_then(|l| l.local_addr().ok()),
            kafka: None,
            internal: None,
            work: Stage::default(),
            servers: Stage::default(),
            logs: Stage::default(),
        };
        if let Some(broker) = config.broker.clone() {
            let internal = broker.listeners.iter().position(|listener| listener.name == INTERNAL);
            let broker =
                Broker::start(broker).await.map_err(|e| Error::fatal("the broker cannot start").caused_by(e))?;
            node.kafka = broker.local_addrs().first().copied();
            node.internal = internal.and_then(|index| broker.local_addrs().get(index).copied()).or(node.kafka);
            node.broker = Some(broker);
        }
        if let Err(error) = node.start_clients(config, registry, connect, ui).await {
            node.shutdown().await;
            return Err(error);
        }
        Ok(node)
    }

    async fn start_clients(
        &mut self,
        config: NodeConfig,
        registry: Option<TcpListener>,
        connect: Option<TcpListener>,
        ui: Option<TcpListener>,
    ) -> Result<()> {
        if registry.is_none() && connect.is_none() {
            return Ok(());
        }
        let embedded = self.internal.map(reachable);
        let mut worker = config.worker;
        let bootstrapped = config.bootstrap_servers.is_some();
        if let Some(bootstrap) = config.bootstrap_servers.or(embedded) {
            worker.insert("bootstrap.servers".to_owned(), bootstrap);
        }
        if let Some(address) = self.registry {
            worker.entry("schema.registry.url".to_owned()).or_insert_with(|| format!("http://{}", reachable(address)));
        }
        if self.uses_embedded(&worker, bootstrapped) {
            // A transaction costs little here, and needs no rights: nothing is doubled unless the user wants it cheaper.
            worker.entry("exactly.once.source.support".to_owned()).or_insert_with(|| "enabled".to_owned());
        }
        let worker = Arc::new(WorkerConfig::new(worker));
        let kafka = self.kafka_of(&worker, bootstrapped)?;
        if let Some(broker) = &self.broker
            && worker.exactly_once_sources()
        {
            Embedded::new(broker.handle().clone()).abort_left_open(&format!("{}-", worker.text("group.id"))).await;
        }
        let serve_registry = async {
            let Some(listener) = registry else { return Ok(()) };
            let settings = &config.registry_settings;
            let registry = until_reachable("registry", || self.open_registry(kafka.as_ref(), settings)).await?;
            self.serve(listener, towline_registry::http::router(registry));
            Ok::<_, Error>(())
        };
        let serve_connect = async {
            let Some(listener) = connect else { return Ok(None) };
            let worker_id = worker_id(&worker, self.connect);
            let (work, logs) = (&self.work, &self.logs);
            let herder = until_reachable("Connect worker", || {
                Herder::start(
                    kafka.clone(),
                    worker.clone(),
                    &worker_id,
                    (&work.tracker, &work.stop),
                    (&logs.tracker, &logs.stop),
                )
            })
            .await?;
            self.serve(listener, rest::router(herder.clone()));
            Ok::<_, Error>(Some(herder))
        };
        let ((), herder) = tokio::try_join!(serve_registry, serve_connect)?;
        if let (Some(listener), Some(herder)) = (ui, herder.clone()) {
            let address = |scheme: &str, address: Option<SocketAddr>| {
                address.map_or_else(|| "not here".to_owned(), |address| format!("{scheme}{}", reachable(address)))
            };
            let parts = vec![
                ("Kafka", address("", self.kafka)),
                ("Schema registry", address("http://", self.registry)),
                ("Kafka Connect", address("http://", self.connect)),
            ];
            self.serve(listener, status_page::router(StatusPage { parts, herder }));
        }
        self.herder = herder;
        Ok(())
    }

    /// The log of registry and worker: the broker in this process unless another cluster is named, or the worker's
    /// `towline.kafka.adapter` is `cluster`: then it is reached over TCP like any other.
    fn kafka_of(&self, worker: &WorkerConfig, bootstrapped: bool) -> Result<Arc<dyn Kafka>> {
        let adapter = worker.text(ADAPTER);
        match (&self.broker, adapter) {
            (Some(broker), "" | "embedded") if !bootstrapped => Ok(Arc::new(Embedded::new(broker.handle().clone()))),
            (_, "" | "cluster") => Ok(Arc::new(Cluster::new(worker.common_client())?)),
            (None, "embedded") => Err(Error::config(format!(
                "{ADAPTER}=embedded needs a broker in the same process: start `towline up`, or leave the key out"
            ))),
            (Some(_), "embedded") => Err(Error::config(format!(
                "{ADAPTER}=embedded and bootstrap servers exclude each other: leave one out"
            ))),
            _ => Err(Error::config(format!("{ADAPTER}={adapter} is not understood: it is embedded or cluster"))),
        }
    }

    fn uses_embedded(&self, worker: &BTreeMap<String, String>, bootstrapped: bool) -> bool {
        let adapter = worker.get(ADAPTER).map_or("", |text| text.trim());
        self.broker.is_some() && !bootstrapped && matches!(adapter, "" | "embedded")
    }

    async fn open_registry(&self, kafka: &dyn Kafka, settings: &BTreeMap<String, String>) -> Result<Registry> {
        let topic = settings.get("kafkastore.topic").map_or("_schemas", String::as_str);
        registry_log::open(kafka, topic, Options::default(), &self.logs.tracker, &self.logs.stop).await
    }

    fn serve(&self, listener: TcpListener, router: Router) {
        let stop = self.servers.stop.clone();
        self.servers.tracker.spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!(%error, "an HTTP server ended");
            }
        });
    }

    /// Where the broker listens.
    pub fn kafka(&self) -> Option<SocketAddr> {
        self.kafka
    }

    /// Where the registry listens.
    pub fn registry(&self) -> Option<SocketAddr> {
        self.registry
    }

    /// Where the worker's REST API listens.
    pub fn connect(&self) -> Option<SocketAddr> {
        self.connect
    }

    /// Where the status page listens.
    pub fn ui(&self) -> Option<SocketAddr> {
        self.ui
    }

    /// The worker, if it runs here.
    pub fn herder(&self) -> Option<&Herder> {
        self.herder.as_ref()
    }

    /// Stops everything: tasks flush and commit, then servers, logs and the broker end.
    pub async fn shutdown(mut self) {
        self.work.end("connectors", Duration::from_secs(15)).await;
        self.servers.end("HTTP connections", Duration::from_secs(2)).await;
        if let Some(herder) = self.herder.take() {
            herder.write_notes(Duration::from_secs(2)).await;
        }
        self.logs.end("log readers", Duration::from_secs(5)).await;
        if let Some(broker) = self.broker
            && let Err(error) = broker.shutdown().await
        {
            tracing::error!(%error, "the broker did not stop cleanly; the next start checks its logs");
        }
    }
}

/// Tries again while the Kafka cluster does not answer: in a compose file everything starts at once.
async fn until_reachable<T, F: Future<Output = Result<T>>>(what: &str, mut open: impl FnMut() -> F) -> Result<T> {
    loop {
        match open().await {
            Err(error) if error.kind() == ErrorKind::Retriable => {
                tracing::warn!(%error, "the {what} cannot start yet, trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn bind(address: Option<&str>, what: &str, flag: &str) -> Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("another program has this port: stop it, or choose another address with {flag} HOST:PORT")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("this user may not open the port: choose one above 1023 with {flag} HOST:PORT")
            }
            _ => format!("check the address given with {flag} HOST:PORT"),
        };
        Error::config(format!("the {what} cannot listen on {address}: {error}; {advice}")).caused_by(error)
    })
}

/// How a client on this machine reaches a listener.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("127.0.0.1:{}", address.port()) } else { address.to_string() }
}

/// `host:port` of the worker, as statuses show it.
fn worker_id(config: &WorkerConfig, address: Option<SocketAddr>) -> String {
    let host = config.text("rest.advertised.host.name");
    let port = config.number::<u16>("rest.advertised.port").or(address.map(|a| a.port())).unwrap_or(8083);
    match address {
        _ if !host.is_empty() => format!("{host}:{port}"),
        Some(address) if !address.ip().is_unspecified() => format!("{}:{port}", address.ip()),
        _ => format!("localhost:{port}"),
    }
}
