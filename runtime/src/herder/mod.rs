//! The herder: what users ask for becomes records of the config topic, and what the config topic says becomes running
//! connectors. One `supervisor` task a connector, so that a slow one holds up nobody else.

mod decision;
mod framework_keys;
mod offsets;
mod planner;
mod plugins;
mod restart;
mod supervisor;
mod validate;

pub use plugins::{Plugin, PluginKind, connector_class, find_connector, plugins};
pub use restart::ConnectorStatus;
pub use validate::{ConfigInfo, ConfigInfos};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use towline_connectors::api::{Connector, Props};

use crate::config::WorkerConfig;
use crate::kafka::Kafka;
use crate::store::{ConnectorState, State, Stores, TargetState};
use supervisor::SupervisorHandle;

/// Why a request was refused: an HTTP status and the text of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// What happened.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn not_found(name: &str) -> Self {
        Self::new(404, format!("Connector {name} not found"))
    }
}

impl From<towline_connectors::api::Error> for Refusal {
    fn from(error: towline_connectors::api::Error) -> Self {
        Self::new(500, error.to_string())
    }
}

/// What the herder and all supervisors share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) kafka: Arc<dyn Kafka>,
    pub(crate) cluster_id: Arc<str>,
    pub(crate) stores: Stores,
    pub(crate) config: Arc<WorkerConfig>,
    pub(crate) worker_id: Arc<str>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// The handle that the REST API calls.
#[derive(Debug, Clone)]
pub struct Herder {
    shared: Arc<Shared>,
    supervisors: Arc<Mutex<HashMap<String, SupervisorHandle>>>,
    /// Held from the last look at a connector to the write that follows from it.
    writing: Arc<tokio::sync::Mutex<()>>,
}

/// A connector as REST shows it.
#[derive(Debug, Clone)]
pub struct ConnectorInfo {
    /// The name.
    pub name: String,
    /// The config as given.
    pub config: Props,
    /// The numbers of its tasks.
    pub tasks: usize,
    /// `source`, `sink` or `unknown`.
    pub kind: &'static str,
}

/// How long a change waits to be taken up by the connector's supervisor before the answer goes out.
const SETTLE: Duration = Duration::from_secs(10);

impl Herder {
    /// Writes what is noted of the use of topics, once the work has ended and before the logs are stopped.
    pub async fn write_notes(&self, patience: Duration) {
        let written = tokio::time::timeout(patience, self.shared.stores.status.write_noted()).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!("the use of topics could not be noted");
        }
    }

    /// Starts the herder: opens the stores and keeps following them until the work is stopped. The logs must be stopped
    /// after it: the last offsets and statuses are written while tasks end.
    ///
    /// # Errors
    /// What opening the stores says.
    pub async fn start(
        kafka: Arc<dyn Kafka>,
        config: Arc<WorkerConfig>,
        worker_id: &str,
        (tracker, stop): (&TaskTracker, &CancellationToken),
        (log_tracker, log_stop): (&TaskTracker, &CancellationToken),
    ) -> towline_connectors::api::Result<Self> {
        let stores = Stores::open(kafka.as_ref(), &config, log_tracker, log_stop).await?;
        let cluster_id = kafka.cluster_id().await?;
        let shared = Arc::new(Shared {
            kafka,
            cluster_id: Arc::from(cluster_id),
            stores,
            config,
            worker_id: Arc::from(worker_id),
            tracker: tracker.clone(),
            stop: stop.clone(),
        });
        let herder = Self { shared, supervisors: Arc::default(), writing: Arc::default() };
        tracker.spawn(herder.clone().follow());
        Ok(herder)
    }

    /// Hands every change of the config topic to the connector's supervisor.
    async fn follow(self) {
        let mut changes = self.shared.stores.configs.watch();
        let mut handed: HashMap<String, Arc<ConnectorState>> = HashMap::new();
        // Supervisors of deleted connectors: one that is made anew under the name waits for its forerunner to end.
        let mut ending: HashMap<String, SupervisorHandle> = HashMap::new();
        loop {
            changes.borrow_and_update();
            let connectors = self.shared.stores.configs.connectors();
            {
                let mut supervisors = self.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
                for (name, state) in &connectors {
                    if handed.get(name).is_some_and(|known| Arc::ptr_eq(known, state)) {
                        continue;
                    }
                    handed.insert(name.clone(), state.clone());
                    match supervisors.get(name) {
                        Some(supervisor) => supervisor.set_desired(Some(state.clone())),
                        None => {
                            let before = ending.remove(name);
                            let handle = supervisor::spawn(self.shared.clone(), name, state.clone(), before);
                            supervisors.insert(name.clone(), handle);
                        }
                    }
                }
                handed.retain(|name, _| {
                    let kept = connectors.contains_key(name);
                    if !kept && let Some(supervisor) = supervisors.remove(name) {
                        supervisor.set_desired(None);
                        ending.insert(name.clone(), supervisor);
                    }
                    kept
                });
            }
            tokio::select! {
                () = self.shared.stop.cancelled() => break,
                changed = changes.changed() => if changed.is_err() { break },
            }
        }
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn supervisor(&self, name: &str) -> Option<SupervisorHandle> {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The cluster that the worker is attached to.
    pub fn cluster_id(&self) -> &str {
        &self.shared.cluster_id
    }

    /// The worker's settings.
    pub fn config(&self) -> &WorkerConfig {
        &self.shared.config
    }

    /// The names of all connectors.
    pub fn connectors(&self) -> Vec<String> {
        self.shared.stores.configs.connectors().into_keys().collect()
    }

    fn state(&self, name: &str) -> Result<Arc<ConnectorState>, Refusal> {
        self.shared.stores.configs.connector(name).ok_or_else(|| Refusal::not_found(name))
    }

    /// A connector as REST shows it.
    ///
    /// # Errors
    /// 404 if there is none of that name.
    pub fn info(&self, name: &str) -> Result<ConnectorInfo, Refusal> {
        self.state(name).map(|state| info_of(name, &state))
    }

    /// The configs of a connector's tasks.
    ///
    /// # Errors
    /// 404 if there is none of that name.
    pub fn task_configs(&self, name: &str) -> Result<Vec<Props>, Refusal> {
        self.state(name).map(|state| state.tasks.clone())
    }

    /// Creates a connector; answers once its config is in the log.
    ///
    /// # Errors
    /// 400 for a config that is not valid, 409 if the name is taken, 500 for an unknown class.
    pub async fn create(
        &self,
        name: &str,
        config: Vec<(String, Option<String>)>,
        initial: Option<TargetState>,
    ) -> Result<ConnectorInfo, Refusal> {
        let config = named(name, config)?;
        let config = self.validated(config).await?;
        let _writing = self.writing.lock().await;
        if self.shared.stores.configs.connector(name).is_some() {
            return Err(Refusal::new(409, format!("Connector {name} already exists")));
        }
        self.shared.stores.configs.put_connector(name, &config, initial).await?;
        self.info(name)
    }

    /// Creates or changes a connector; whether it was created.
    ///
    /// # Errors
    /// 400 for a config that is not valid, 500 for an unknown class.
    pub async fn put_config(
        &self,
        name: &str,
        config: Vec<(String, Option<String>)>,
    ) -> Result<(bool, ConnectorInfo), Refusal> {
        let config = named(name, config)?;
        let config = self.validated(config).await?;
        let _writing = self.writing.lock().await;
        let created = self.shared.stores.configs.connector(name).is_none();
        self.shared.stores.configs.put_connector(name, &config, None).await?;
        Ok((created, self.info(name)?))
    }

    /// Changes some keys of a connector's config; `None` removes one (KIP-477).
    ///
    /// # Errors
    /// 404 if there is none of that name, 400 if the merged config is not valid.
    pub async fn patch_config(
        &self,
        name: &str,
        patch: Vec<(String, Option<String>)>,
    ) -> Result<ConnectorInfo, Refusal> {
        let _writing = self.writing.lock().await;
        let mut config = self.state(name)?.config.clone();
        for (key, value) in patch {
            match value {
                Some(value) => config.insert(key, value),
                None => config.shift_remove(&key),
            };
        }
        let config = named(name, config.into_iter().map(|(key, value)| (key, Some(value))).collect())?;
        let config = self.validated(config).await?;
        self.shared.stores.configs.put_connector(name, &config, None).await?;
        self.info(name)
    }

    /// Deletes a connector; its offsets stay.
    ///
    /// # Errors
    /// 404 if there is none of that name.
    pub async fn delete(&self, name: &str) -> Result<(), Refusal> {
        self.state(name)?;
        let supervisor = self.supervisor(name);
        self.shared.stores.configs.delete_connector(name).await?;
        if let Some(supervisor) = supervisor {
            supervisor.ended(SETTLE).await;
        }
        Ok(())
    }

    /// Sets what the user wants of a connector.
    ///
    /// # Errors
    /// 404 if there is none of that name.
    pub async fn set_target(&self, name: &str, target: TargetState) -> Result<(), Refusal> {
        if self.state(name).is_err() {
            return Err(Refusal::new(404, format!("Unknown connector {name}")));
        }
        if target == TargetState::Stopped {
            self.shared.stores.configs.put_tasks(name, &[]).await?;
        }
        self.shared.stores.configs.put_target(name, target).await?;
        if target == TargetState::Stopped {
            self.until_stopped(name).await;
        }
        Ok(())
    }

    /// Waits, within bounds, until a connector's tasks have ended.
    async fn until_stopped(&self, name: &str) {
        let stopped = async {
            while self.shared.stores.status.connector(name).is_some_and(|status| status.state != State::Stopped) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(SETTLE, stopped).await;
    }

    /// The topics that a connector has used; none for one that is not known.
    ///
    /// # Errors
    /// 403 if the worker does not track topics.
    pub fn topics(&self, name: &str) -> Result<Vec<String>, Refusal> {
        self.tracks_topics()?;
        Ok(self.shared.stores.status.topics(name))
    }

    /// Forgets the topics that a connector has used.
    ///
    /// # Errors
    /// 403 if the worker does not track topics, or does not allow this.
    pub async fn reset_topics(&self, name: &str) -> Result<(), Refusal> {
        self.tracks_topics()?;
        if !self.shared.config.boolean("topic.tracking.allow.reset") {
            return Err(Refusal::new(403, "Topic tracking reset is disabled."));
        }
        Ok(self.shared.stores.status.reset_topics(name).await?)
    }

    fn tracks_topics(&self) -> Result<(), Refusal> {
        if self.shared.config.boolean("topic.tracking.enable") {
            Ok(())
        } else {
            Err(Refusal::new(403, "Topic tracking is disabled."))
        }
    }

    /// What tasks of a connector say of their retries, by number.
    pub fn notes(&self, name: &str) -> HashMap<usize, String> {
        self.supervisor(name).map(|supervisor| supervisor.notes()).unwrap_or_default()
    }

    /// What the connector itself says of its retries.
    pub fn connector_note(&self, name: &str) -> Option<String> {
        self.supervisor(name)?.connector_note()
    }
}

fn info_of(name: &str, state: &ConnectorState) -> ConnectorInfo {
    let kind = match find_connector(state.config.get("connector.class").map_or("", String::as_str)) {
        Some(Connector::Source(_)) => "source",
        Some(Connector::Sink(_)) => "sink",
        None => "unknown",
    };
    ConnectorInfo { name: name.to_owned(), config: state.config.clone(), tasks: state.tasks.len(), kind }
}

/// The config with its name in it.
fn named(name: &str, mut config: Vec<(String, Option<String>)>) -> Result<Vec<(String, Option<String>)>, Refusal> {
    match config.iter().find(|(key, _)| key == "name") {
        Some((_, Some(inner))) if inner != name => Err(Refusal::new(
            400,
            format!("Connector name configuration ({inner}) doesn't match connector name in the URL ({name})"),
        )),
        Some((_, Some(_))) => Ok(config),
        _ => {
            config.retain(|(key, _)| key != "name");
            config.push(("name".to_owned(), Some(name.to_owned())));
            Ok(config)
        }
    }
}
