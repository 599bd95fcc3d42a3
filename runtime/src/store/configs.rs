//! `connect-configs`: connector configs, target states and task configs (spec: Kafka's `KafkaConfigBackingStore`).
//!
//! Task configs are held back until their `commit-` record; a commit that names more tasks than are there leaves the
//! connector without tasks until they are generated anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use towline_connectors::api::{Props, Result};

use super::json_of;
use crate::kafka::compacted_log::{CompactedLogs, LogState};
use crate::kafka::{Incoming, Outgoing};

/// What a user wants a connector to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetState {
    /// Run.
    #[default]
    Started,
    /// Keep everything open but move nothing.
    Paused,
    /// Have no tasks.
    Stopped,
}

impl TargetState {
    fn to_json(self) -> Value {
        // `state` is for workers before 3.5, which know no STOPPED.
        match self {
            Self::Started => json!({"state": "STARTED", "state.v2": "STARTED"}),
            Self::Paused => json!({"state": "PAUSED", "state.v2": "PAUSED"}),
            Self::Stopped => json!({"state": "PAUSED", "state.v2": "STOPPED"}),
        }
    }

    fn from_json(value: &Value) -> Option<Self> {
        match value.get("state.v2").and_then(Value::as_str).or_else(|| value.get("state")?.as_str())? {
            "STARTED" => Some(Self::Started),
            "PAUSED" => Some(Self::Paused),
            "STOPPED" => Some(Self::Stopped),
            _ => None,
        }
    }
}

/// One connector as the topic has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectorState {
    /// The config as given, placeholders unresolved.
    pub config: Props,
    /// Offset of the config's record: tells one write from the next.
    pub config_version: i64,
    /// What the user wants.
    pub target: TargetState,
    /// The committed task configs.
    pub tasks: Vec<Props>,
    /// Offset of the commit record.
    pub tasks_version: i64,
}

/// All connectors by name.
pub type Connectors = BTreeMap<String, Arc<ConnectorState>>;

#[derive(Default)]
struct State {
    connectors: Connectors,
    targets: BTreeMap<String, TargetState>,
    pending: BTreeMap<String, BTreeMap<usize, Props>>,
    /// Committed task configs, also of a connector whose own record stands behind the commit (compaction moves it).
    committed: BTreeMap<String, (Vec<Props>, i64)>,
}

impl State {
    fn apply(&mut self, key: &str, value: Option<&Value>, offset: i64) {
        if let Some(name) = key.strip_prefix("connector-") {
            let Some(config) = value.and_then(properties) else {
                self.connectors.remove(name);
                self.targets.remove(name);
                self.committed.remove(name);
                return;
            };
            let target = self.targets.get(name).copied().unwrap_or_default();
            let entry = self.connectors.entry(name.to_owned()).or_default();
            let state = Arc::make_mut(entry);
            (state.config, state.config_version, state.target) = (config, offset, target);
            if let Some((tasks, version)) = self.committed.get(name) {
                (state.tasks, state.tasks_version) = (tasks.clone(), *version);
            }
        } else if let Some(name) = key.strip_prefix("target-state-") {
            let target = match value {
                None => TargetState::default(),
                Some(value) => match TargetState::from_json(value) {
                    Some(target) => target,
                    None => return tracing::warn!(connector = name, %value, "unknown target state is ignored"),
                },
            };
            self.targets.insert(name.to_owned(), target);
            if let Some(entry) = self.connectors.get_mut(name) {
                Arc::make_mut(entry).target = target;
            }
        } else if let Some(id) = key.strip_prefix("task-") {
            if let (Some((name, task)), Some(config)) = (id.rsplit_once('-'), value.and_then(properties))
                && let Ok(task) = task.parse()
            {
                self.pending.entry(name.to_owned()).or_default().insert(task, config);
            }
        } else if let Some(name) = key.strip_prefix("commit-") {
            let count = value.and_then(|v| v.get("tasks")).and_then(Value::as_u64).unwrap_or(0);
            let pending = self.pending.remove(name).unwrap_or_default();
            let before = self.committed.get(name).map(|(tasks, _)| tasks.as_slice()).unwrap_or_default();
            let tasks: Vec<Props> = (0..usize::try_from(count).unwrap_or(0))
                .map_while(|task| pending.get(&task).cloned().or_else(|| before.get(task).cloned()))
                .collect();
            // Fewer than committed (compaction took some): inconsistent, so none until they are generated anew.
            let tasks = if tasks.len() as u64 == count { tasks } else { Vec::new() };
            if let Some(entry) = self.connectors.get_mut(name) {
                let state = Arc::make_mut(entry);
                (state.tasks, state.tasks_version) = (tasks.clone(), offset);
            }
            self.committed.insert(name.to_owned(), (tasks, offset));
        }
    }
}

fn properties(value: &Value) -> Option<Props> {
    let properties = value.get("properties")?.as_object()?;
    Some(
        properties
            .iter()
            .filter_map(|(key, value)| match value {
                Value::String(text) => Some((key.clone(), text.clone())),
                Value::Null => None,
                other => Some((key.clone(), other.to_string())),
            })
            .collect(),
    )
}

/// The topic's content, fed by the log.
pub(super) struct ConfigLog {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Default for ConfigLog {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::channel(()).0 }
    }
}

impl LogState for ConfigLog {
    fn apply(&self, record: &Incoming) {
        let Some(key) = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else { return };
        let value = record.value.as_deref().and_then(|bytes| json_of(&record.topic, record.offset, bytes));
        if record.value.is_some() && value.is_none() {
            return;
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).apply(key, value.as_ref(), record.offset);
        self.changed.send_replace(());
    }
}

/// Reads and writes connector configs.
pub struct ConfigStore {
    log: Arc<ConfigLog>,
    logs: Arc<CompactedLogs>,
    topic: Arc<str>,
}

impl std::fmt::Debug for ConfigStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ConfigStore").field(&self.topic).finish()
    }
}

impl ConfigStore {
    pub(super) fn new(log: Arc<ConfigLog>, logs: Arc<CompactedLogs>, topic: Arc<str>) -> Self {
        Self { log, logs, topic }
    }

    /// All connectors as of now.
    pub fn connectors(&self) -> Connectors {
        self.log.state.lock().unwrap_or_else(PoisonError::into_inner).connectors.clone()
    }

    /// One connector as of now.
    pub fn connector(&self, name: &str) -> Option<Arc<ConnectorState>> {
        self.log.state.lock().unwrap_or_else(PoisonError::into_inner).connectors.get(name).cloned()
    }

    /// Marked changed after every record.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.log.changed.subscribe()
    }

    async fn put(&self, key: String, value: Option<Value>) -> Result<()> {
        let value = value.map(|value| value.to_string().into_bytes());
        self.logs.append(&self.topic, key.as_bytes(), value.as_deref()).await.map(|_| ())
    }

    /// Writes a connector's config; the initial state, if any, first.
    ///
    /// # Errors
    /// Retriable if the log did not take it.
    pub async fn put_connector(&self, name: &str, config: &Props, initial: Option<TargetState>) -> Result<()> {
        if let Some(target) = initial {
            self.put_target(name, target).await?;
        }
        self.put(format!("connector-{name}"), Some(json!({ "properties": as_object(config) }))).await
    }

    /// Deletes a connector.
    ///
    /// # Errors
    /// Retriable if the log did not take it.
    pub async fn delete_connector(&self, name: &str) -> Result<()> {
        self.put(format!("connector-{name}"), None).await?;
        self.put(format!("target-state-{name}"), None).await
    }

    /// Writes what the user wants of a connector.
    ///
    /// # Errors
    /// Retriable if the log did not take it.
    pub async fn put_target(&self, name: &str, target: TargetState) -> Result<()> {
        self.put(format!("target-state-{name}"), Some(target.to_json())).await
    }

    /// Writes a connector's task configs and commits them.
    ///
    /// # Errors
    /// Retriable if the log did not take them.
    pub async fn put_tasks(&self, name: &str, tasks: &[Props]) -> Result<()> {
        let mut batch = Outgoing::new(self.topic.clone());
        for (task, config) in tasks.iter().enumerate() {
            let value = json!({ "properties": as_object(config) }).to_string();
            batch.push(Some(format!("task-{name}-{task}").as_bytes()), Some(value.as_bytes()));
        }
        let commit = json!({ "tasks": tasks.len() }).to_string();
        batch.push(Some(format!("commit-{name}").as_bytes()), Some(commit.as_bytes()));
        self.logs.append_all(batch).await
    }
}

fn as_object(config: &Props) -> Map<String, Value> {
    config.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(state: &mut State, key: &str, value: Value, offset: i64) {
        state.apply(key, Some(&value), offset);
    }

    #[test]
    fn holds_tasks_back_until_their_commit() {
        let mut state = State::default();
        put(&mut state, "target-state-c", json!({"state": "PAUSED", "state.v2": "STOPPED"}), 0);
        put(&mut state, "connector-c", json!({"properties": {"a": "1"}}), 1);
        put(&mut state, "task-c-0", json!({"properties": {"t": "0"}}), 2);
        assert_eq!(state.connectors["c"].target, TargetState::Stopped);
        assert!(state.connectors["c"].tasks.is_empty());
        put(&mut state, "commit-c", json!({"tasks": 1}), 3);
        assert_eq!(state.connectors["c"].tasks.len(), 1);
        put(&mut state, "commit-c", json!({"tasks": 3}), 4);
        assert!(state.connectors["c"].tasks.is_empty(), "an inconsistent commit reads as no tasks");
        put(&mut state, "task-c-0", json!({"properties": {"t": "1"}}), 5);
        put(&mut state, "commit-c", json!({"tasks": 1}), 6);
        state.connectors.clear();
        put(&mut state, "connector-c", json!({"properties": {"a": "1"}}), 7);
        assert_eq!(state.connectors["c"].tasks.len(), 1, "a connector's record may stand behind its commit");
        state.apply("connector-c", None, 8);
        assert!(state.connectors.is_empty() && state.committed.is_empty());
    }
}
