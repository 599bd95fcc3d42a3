//! `connect-status`: the state of each connector and task, and which topics a connector has used (KIP-558).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use towline_connectors::api::Result;

use super::json_of;
use crate::kafka::compacted_log::{CompactedLogs, LogState};
use crate::kafka::{Incoming, Outgoing};

/// How long notes are gathered before they are written.
const GATHERED: Duration = Duration::from_millis(200);
/// The pause after a write that failed.
const RETRY: Duration = Duration::from_secs(1);

/// The state of a connector or task, in Connect's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not running anywhere now.
    Unassigned,
    /// Runs.
    Running,
    /// Keeps everything open but moves nothing.
    Paused,
    /// Ended with an error.
    Failed,
    /// Has no tasks, at the user's wish.
    Stopped,
    /// Is being started again.
    Restarting,
}

impl State {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unassigned => "UNASSIGNED",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Failed => "FAILED",
            Self::Stopped => "STOPPED",
            Self::Restarting => "RESTARTING",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Unassigned, Self::Running, Self::Paused, Self::Failed, Self::Stopped, Self::Restarting]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// How one connector or task fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// The error with its causes, if it FAILED.
    pub trace: Option<String>,
    /// The worker that said so.
    pub worker_id: String,
}

/// A topic that a connector has used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicUse {
    /// The topic.
    pub topic: String,
    /// The task that used it first.
    pub task: usize,
}

#[derive(Default)]
struct Content {
    connectors: BTreeMap<String, Status>,
    tasks: BTreeMap<(String, usize), Status>,
    topics: BTreeMap<(String, String), ()>,
}

#[derive(Default)]
pub(super) struct StatusLog(Mutex<Content>);

impl LogState for StatusLog {
    fn apply(&self, record: &Incoming) {
        let Some(key) = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else { return };
        let value = record.value.as_deref().and_then(|bytes| json_of(&record.topic, record.offset, bytes));
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = key.strip_prefix("status-topic-") {
            if let Some((topic, connector)) = rest.rsplit_once(":connector-") {
                let entry = (connector.to_owned(), topic.to_owned());
                if value.is_some() {
                    content.topics.insert(entry, ())
                } else {
                    content.topics.remove(&entry)
                };
            }
        } else if let Some(connector) = key.strip_prefix("status-connector-") {
            match value.as_ref().and_then(parse_status) {
                Some(status) => content.connectors.insert(connector.to_owned(), status),
                None => content.connectors.remove(connector),
            };
        } else if let Some((connector, task)) = key.strip_prefix("status-task-").and_then(|id| id.rsplit_once('-'))
            && let Ok(task) = task.parse()
        {
            let id = (connector.to_owned(), task);
            match value.as_ref().and_then(parse_status) {
                Some(status) => content.tasks.insert(id, status),
                None => content.tasks.remove(&id),
            };
        }
    }
}

fn parse_status(value: &Value) -> Option<Status> {
    Some(Status {
        state: State::parse(value.get("state")?.as_str()?)?,
        trace: value.get("trace").and_then(Value::as_str).map(str::to_owned),
        worker_id: value.get("worker_id").and_then(Value::as_str).unwrap_or_default().to_owned(),
    })
}

/// Reads and writes statuses.
pub struct StatusStore {
    log: Arc<StatusLog>,
    logs: Arc<CompactedLogs>,
    topic: Arc<str>,
    /// Uses of topics that are not in the log yet, by connector and topic.
    notes: Mutex<BTreeMap<(String, String), Value>>,
    noted: Notify,
    /// Held while notes are written, or uses forgotten.
    writing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for StatusStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StatusStore").field(&self.topic).finish()
    }
}

impl StatusStore {
    pub(super) fn new(log: Arc<StatusLog>, logs: Arc<CompactedLogs>, topic: Arc<str>) -> Self {
        Self { log, logs, topic, notes: Mutex::default(), noted: Notify::new(), writing: tokio::sync::Mutex::default() }
    }

    fn read<T>(&self, of: impl FnOnce(&Content) -> T) -> T {
        of(&self.log.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The status of a connector.
    pub fn connector(&self, name: &str) -> Option<Status> {
        self.read(|content| content.connectors.get(name).cloned())
    }

    /// The statuses of a connector's tasks, by number.
    pub fn tasks(&self, name: &str) -> Vec<(usize, Status)> {
        self.read(|content| {
            let of_connector = content.tasks.iter().filter(|((connector, _), _)| connector == name);
            of_connector.map(|((_, task), status)| (*task, status.clone())).collect()
        })
    }

    /// The topics that a connector has used.
    pub fn topics(&self, name: &str) -> Vec<String> {
        let of_connector = |key: &&(String, String)| key.0 == name;
        let mut topics: BTreeSet<String> =
            self.notes().keys().filter(of_connector).map(|(_, topic)| topic.clone()).collect();
        self.read(|content| {
            topics.extend(content.topics.keys().filter(of_connector).map(|(_, topic)| topic.clone()));
        });
        topics.into_iter().collect()
    }

    async fn put(&self, key: String, value: Option<Value>) -> Result<()> {
        let value = value.map(|value| value.to_string().into_bytes());
        self.logs.append(&self.topic, key.as_bytes(), value.as_deref()).await.map(|_| ())
    }

    /// Writes the status of a connector; `None` deletes it.
    ///
    /// # Errors
    /// Retriable if the log did not take it.
    pub async fn put_connector(&self, name: &str, status: Option<&Status>) -> Result<()> {
        self.put(format!("status-connector-{name}"), status.map(status_json)).await
    }

    /// Writes the status of a task; `None` deletes it.
    ///
    /// # Errors
    /// Retriable if the log did not take it.
    pub async fn put_task(&self, name: &str, task: usize, status: Option<&Status>) -> Result<()> {
        self.put(format!("status-task-{name}-{task}"), status.map(status_json)).await
    }

    /// Notes that a task uses a topic, once. It is written in the background, as Connect does: records do not wait for
    /// what only the REST interface shows.
    pub fn note_topic(&self, name: &str, used: &TopicUse, now_ms: i64) {
        let key = (name.to_owned(), used.topic.clone());
        if self.read(|content| content.topics.contains_key(&key)) {
            return;
        }
        let value = json!({"topic": {
            "name": used.topic, "connector": name, "task": used.task, "discoverTimestamp": now_ms
        }});
        self.notes().entry(key).or_insert(value);
        self.noted.notify_one();
    }

    fn notes(&self) -> MutexGuard<'_, BTreeMap<(String, String), Value>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was noted, until `stop`.
    pub(super) async fn write_notes(self: Arc<Self>, stop: CancellationToken) {
        loop {
            // Both are cancel-safe.
            tokio::select! {
                () = stop.cancelled() => return,
                () = async {
                    self.noted.notified().await;
                    tokio::time::sleep(GATHERED).await;
                } => {}
            }
            while let Err(error) = self.write_noted().await {
                tracing::warn!(topic = %self.topic, %error, "the use of topics is not noted yet");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
    }

    /// Writes what is noted now.
    ///
    /// # Errors
    /// Retriable if the log did not take it.
    pub async fn write_noted(&self) -> Result<()> {
        let _alone = self.writing.lock().await;
        let noted = self.notes().clone();
        if noted.is_empty() {
            return Ok(());
        }
        let mut batch = Outgoing::new(self.topic.clone());
        for ((connector, topic), value) in &noted {
            batch.push(Some(topic_key(connector, topic).as_bytes()), Some(value.to_string().as_bytes()));
        }
        self.logs.append_all(batch).await?;
        self.notes().retain(|key, _| !noted.contains_key(key));
        Ok(())
    }

    /// Forgets the topics that a connector has used.
    ///
    /// # Errors
    /// Retriable if the log did not take it.
    pub async fn reset_topics(&self, name: &str) -> Result<()> {
        // What is being noted is in the log, and read back, when this lock is there.
        let _alone = self.writing.lock().await;
        self.notes().retain(|(connector, _), _| connector != name);
        for topic in self.topics(name) {
            self.put(topic_key(name, &topic), None).await?;
        }
        Ok(())
    }

    /// Deletes all that is known of a connector.
    ///
    /// # Errors
    /// Retriable if the log did not take it.
    pub async fn delete(&self, name: &str) -> Result<()> {
        for (task, _) in self.tasks(name) {
            self.put_task(name, task, None).await?;
        }
        self.reset_topics(name).await?;
        self.put_connector(name, None).await
    }
}

fn topic_key(connector: &str, topic: &str) -> String {
    format!("status-topic-{topic}:connector-{connector}")
}

fn status_json(status: &Status) -> Value {
    json!({"state": status.state.name(), "trace": status.trace, "worker_id": status.worker_id, "generation": 1})
}
