//! Topics, partitions and settings: the one owner of the metadata, kept in one file that is replaced atomically.

mod creation;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use creation::Asked;
pub(crate) use rules::check_name;

use crate::config::{BrokerConfig, SyncPolicy, TopicConfig, check_topic_config};
use crate::error::Error;
use crate::log::{Checkpoint, Fs, Log, LogSetup, Partition, write_checkpoint};

/// The offsets of consumer groups.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The states of transactional ids.
pub(crate) const TRANSACTIONS_TOPIC: &str = "__transaction_state";
const METADATA_FILE: &str = "towline-metadata.json";
const LOG_START_FILE: &str = "log-start-offset-checkpoint";
const RECOVERY_FILE: &str = "recovery-point-offset-checkpoint";
const CLEANER_FILE: &str = "cleaner-offset-checkpoint";
const PRODUCER_ID_BLOCK: i64 = 1000;
/// More partitions than this in one request is a mistake.
const MAX_PARTITIONS: i32 = 100_000;

/// A refusal with its message for the client.
pub(crate) type Refusal = (ResponseError, String);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct TopicRecord {
    id: String,
    partitions: i32,
    #[serde(default)]
    configs: BTreeMap<String, String>,
    #[serde(default)]
    leader_epoch: i32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Metadata {
    version: u32,
    #[serde(default)]
    next_producer_id: i64,
    #[serde(default)]
    broker_configs: BTreeMap<String, String>,
    #[serde(default)]
    topics: BTreeMap<String, TopicRecord>,
}

/// A topic as requests see it; replaced as a whole when it changes.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Arc<Partition>>,
    pub(crate) overrides: BTreeMap<String, String>,
    pub(crate) config: Arc<TopicConfig>,
}

impl Topic {
    /// The partition of that number.
    pub(crate) fn partition(&self, index: i32) -> Result<&Arc<Partition>, ResponseError> {
        usize::try_from(index).ok().and_then(|i| self.partitions.get(i)).ok_or(ResponseError::UnknownTopicOrPartition)
    }
    /// Whether clients may not write to it or delete it.
    pub(crate) fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }
}

/// Whether a topic is the broker's own.
pub(crate) fn is_internal(name: &str) -> bool {
    name == OFFSETS_TOPIC || name == TRANSACTIONS_TOPIC
}

/// A topic to be created.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions, -1 for the broker's default.
    pub partitions: i32,
    /// Replication factor, -1 for the broker's default.
    pub replication_factor: i16,
    /// Its own settings.
    pub configs: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<str>>,
    broker_configs: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Changes {
    /// The broker is gone: nothing may be changed any more.
    closed: bool,
    metadata: Metadata,
    producer_ids: std::ops::Range<i64>,
}

/// All topics of the broker.
#[derive(Debug)]
pub(crate) struct Cluster {
    fs: Arc<dyn Fs>,
    config: Arc<BrokerConfig>,
    state: RwLock<State>,
    /// Held while something is changed and written; never while requests are served from `state`.
    changes: Mutex<Changes>,
    /// Topics to create with the next change.
    asked: Mutex<Vec<Arc<Asked>>>,
    /// Held while checkpoints are written: two writers of one file would take each other's temporary file away.
    checkpoints: Mutex<()>,
    /// Changes whenever a topic comes, goes or grows.
    revision: watch::Sender<u64>,
}

impl Cluster {
    /// Reads the metadata and opens all logs. `clean` says that the last stop was a clean one.
    pub(crate) fn open(fs: Arc<dyn Fs>, config: Arc<BrokerConfig>, clean: bool) -> Result<Self, Error> {
        let path = config.data_dir.join(METADATA_FILE);
        let mut metadata = match fs.read(&path) {
            Ok(bytes) => serde_json::from_slice::<Metadata>(&bytes)
                .map_err(|source| Error::Metadata { path: path.clone(), source: Box::new(source) })?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Metadata { version: 1, ..Metadata::default() },
            Err(source) => return Err(Error::Storage { action: "read", path, source }),
        };
        if !clean && !metadata.topics.is_empty() {
            // Clients notice by the new epoch that records may have been lost.
            for topic in metadata.topics.values_mut() {
                topic.leader_epoch += 1;
            }
            save(fs.as_ref(), &config, &metadata).map_err(|source| Error::Storage { action: "write", path, source })?;
        }
        let cluster = Cluster {
            state: RwLock::new(State { broker_configs: metadata.broker_configs.clone(), ..State::default() }),
            changes: Mutex::new(Changes { closed: false, metadata: Metadata::default(), producer_ids: 0..0 }),
            asked: Mutex::default(),
            checkpoints: Mutex::new(()),
            revision: watch::Sender::new(0),
            fs,
            config,
        };
        cluster.open_logs(&metadata, clean)?;
        cluster.change().metadata = metadata;
        Ok(cluster)
    }

    fn open_logs(&self, metadata: &Metadata, clean: bool) -> Result<(), Error> {
        let dir = &self.config.data_dir;
        let starts = Checkpoint::read(self.fs.as_ref(), &dir.join(LOG_START_FILE));
        let points = Checkpoint::read(self.fs.as_ref(), &dir.join(RECOVERY_FILE));
        let cleaned = Checkpoint::read(self.fs.as_ref(), &dir.join(CLEANER_FILE));
        let defaults = self.broker_defaults();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for (name, record) in &metadata.topics {
            let name: Arc<str> = Arc::from(name.as_str());
            let id = Uuid::parse_str(&record.id)
                .map_err(|source| Error::Metadata { path: dir.join(METADATA_FILE), source: Box::new(source) })?;
            let config = Arc::new(TopicConfig::resolve(&record.configs, &defaults));
            let mut partitions = Vec::new();
            for index in 0..record.partitions {
                let setup = LogSetup {
                    log_start: starts.offset(&name, index, id),
                    recovery_point: (!clean).then(|| points.offset(&name, index, id)),
                    leader_epoch: record.leader_epoch,
                    ..self.setup(&name, index, id, &config)
                };
                let path = setup.dir.clone();
                let mut log =
                    Log::open(setup).map_err(|source| Error::Storage { action: "open the log in", path, source })?;
                log.set_first_dirty(cleaned.offset(&name, index, id));
                partitions.push(Partition::new(index, log));
            }
            let topic = Topic { name: name.clone(), id, partitions, overrides: record.configs.clone(), config };
            state.by_id.insert(id, name.clone());
            state.topics.insert(name, Arc::new(topic));
        }
        Ok(())
    }

    fn setup(&self, name: &str, index: i32, id: Uuid, config: &Arc<TopicConfig>) -> LogSetup {
        LogSetup {
            fs: self.fs.clone(),
            dir: self.partition_dir(name, index),
            topic_id: id,
            config: config.clone(),
            leader_epoch: 0,
            log_start: 0,
            recovery_point: Some(0),
            synced_reads: self.config.sync_policy == SyncPolicy::GroupCommit,
        }
    }

    fn partition_dir(&self, name: &str, index: i32) -> PathBuf {
        self.config.data_dir.join(format!("{name}-{index}"))
    }

    fn change(&self) -> std::sync::MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, with: impl FnOnce(&State) -> T) -> T {
        with(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The broker's settings as they are: changed ones over configured ones.
    pub(crate) fn broker_defaults(&self) -> BTreeMap<String, String> {
        let mut all = self.config.properties.clone();
        all.extend(self.broker_configs());
        all
    }

    /// Settings that were changed while running.
    pub(crate) fn broker_configs(&self) -> BTreeMap<String, String> {
        self.read(|state| state.broker_configs.clone())
    }

    /// Changes whenever a topic comes, goes or grows.
    pub(crate) fn watch_topics(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn topics_changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// The topic of that name.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.read(|state| state.topics.get(name).cloned())
    }

    /// The topic of that id.
    pub(crate) fn topic_by_id(&self, id: &Uuid) -> Option<Arc<Topic>> {
        self.read(|state| state.by_id.get(id).and_then(|name| state.topics.get(name)).cloned())
    }

    /// A partition by name and number.
    pub(crate) fn partition(&self, topic: &str, index: i32) -> Result<Arc<Partition>, ResponseError> {
        self.topic(topic).ok_or(ResponseError::UnknownTopicOrPartition)?.partition(index).cloned()
    }

    /// All topics, sorted by name.
    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        self.read(|state| state.topics.values().cloned().collect())
    }

    /// Deletes a topic. Blocks on the disk.
    pub(crate) fn delete_topic(&self, name: &str) -> Result<Arc<Topic>, ResponseError> {
        if !self.config.delete_topics {
            return Err(ResponseError::TopicDeletionDisabled);
        }
        if is_internal(name) {
            return Err(ResponseError::InvalidTopicException);
        }
        let mut changes = self.change();
        let topic = self.topic(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let mut metadata = changes.metadata.clone();
        metadata.topics.remove(name);
        self.commit(&mut changes, metadata).map_err(|(error, _)| error)?;
        self.write(|state| {
            state.topics.remove(name);
            state.by_id.remove(&topic.id);
        });
        self.topics_changed();
        for partition in &topic.partitions {
            let exists = {
                let mut log = partition.log();
                log.mark_deleted();
                log.exists()
            };
            let dir = self.partition_dir(name, partition.index);
            let gone = self.config.data_dir.join(format!("{}.{}-delete", topic.id.simple(), partition.index));
            if exists && let Err(error) = self.fs.rename(&dir, &gone).and_then(|()| self.fs.remove_dir(&gone)) {
                tracing::warn!(dir = %dir.display(), error = &error as &dyn std::error::Error, "cannot remove a deleted partition");
            }
        }
        tracing::info!(topic = name, "topic deleted");
        Ok(topic)
    }

    /// Raises the number of partitions. Blocks on the disk.
    pub(crate) fn grow_topic(&self, name: &str, count: i32, validate_only: bool) -> Result<(), Refusal> {
        let mut changes = self.change();
        let unknown = || (ResponseError::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
        let topic = self.topic(name).ok_or_else(unknown)?;
        let now = topic.partitions.len() as i32;
        if count <= now || count > MAX_PARTITIONS || topic.is_internal() {
            let message =
                format!("The topic {name} currently has {now} partition(s); {count} would not be an increase.");
            return Err((ResponseError::InvalidPartitions, message));
        }
        if validate_only {
            return Ok(());
        }
        let mut metadata = changes.metadata.clone();
        let record = metadata.topics.get_mut(name).ok_or_else(unknown)?;
        record.partitions = count;
        let leader_epoch = record.leader_epoch;
        let mut partitions = topic.partitions.clone();
        for index in now..count {
            let setup = LogSetup { leader_epoch, ..self.setup(name, index, topic.id, &topic.config) };
            partitions.push(Partition::new(index, Log::open(setup).map_err(|e| storage(&e))?));
        }
        self.commit(&mut changes, metadata)?;
        self.replace(&topic, partitions, topic.overrides.clone());
        self.topics_changed();
        Ok(())
    }

    /// Replaces a topic's own settings. Blocks on the disk.
    pub(crate) fn set_topic_configs(
        &self,
        name: &str,
        validate_only: bool,
        edit: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut changes = self.change();
        let unknown = || (ResponseError::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
        let topic = self.topic(name).ok_or_else(unknown)?;
        let mut overrides = topic.overrides.clone();
        edit(&mut overrides)?;
        for (key, value) in &overrides {
            check_topic_config(key, value).map_err(|message| (ResponseError::InvalidConfig, message))?;
        }
        if validate_only || overrides == topic.overrides {
            return Ok(());
        }
        let mut metadata = changes.metadata.clone();
        metadata.topics.get_mut(name).ok_or_else(unknown)?.configs = overrides.clone();
        self.commit(&mut changes, metadata)?;
        self.replace(&topic, topic.partitions.clone(), overrides);
        Ok(())
    }

    /// Changes the broker's settings that are defaults of topics. Blocks on the disk.
    pub(crate) fn set_broker_configs(&self, configs: BTreeMap<String, String>) -> Result<(), Refusal> {
        let mut changes = self.change();
        let mut metadata = changes.metadata.clone();
        metadata.broker_configs = configs.clone();
        self.commit(&mut changes, metadata)?;
        self.write(|state| state.broker_configs = configs);
        for topic in self.topics() {
            self.replace(&topic, topic.partitions.clone(), topic.overrides.clone());
        }
        Ok(())
    }

    fn replace(&self, old: &Topic, partitions: Vec<Arc<Partition>>, overrides: BTreeMap<String, String>) {
        let config = Arc::new(TopicConfig::resolve(&overrides, &self.broker_defaults()));
        for partition in &partitions {
            partition.log().set_config(config.clone());
        }
        let topic = Arc::new(Topic { name: old.name.clone(), id: old.id, partitions, overrides, config });
        self.write(|state| state.topics.insert(topic.name.clone(), topic));
    }

    /// A producer id that was never given out before, even across crashes.
    pub(crate) fn next_producer_id(&self) -> Result<i64, ResponseError> {
        let mut changes = self.change();
        if changes.producer_ids.is_empty() {
            let first = changes.metadata.next_producer_id;
            let mut metadata = changes.metadata.clone();
            metadata.next_producer_id = first + PRODUCER_ID_BLOCK;
            self.commit(&mut changes, metadata).map_err(|(error, _)| error)?;
            changes.producer_ids = first..first + PRODUCER_ID_BLOCK;
        }
        changes.producer_ids.next().ok_or(ResponseError::UnknownServerError)
    }

    /// Ends all logs and all changes; blocks only for what is under way.
    pub(crate) fn close(&self) {
        self.change().closed = true;
        for topic in self.topics() {
            for partition in &topic.partitions {
                partition.log().mark_closed();
            }
        }
    }

    fn commit(&self, changes: &mut Changes, metadata: Metadata) -> Result<(), Refusal> {
        if changes.closed {
            return Err((ResponseError::NotController, "The broker has stopped.".to_owned()));
        }
        save(self.fs.as_ref(), &self.config, &metadata).map_err(|e| storage(&e))?;
        changes.metadata = metadata;
        Ok(())
    }

    /// Writes the offset checkpoints: recovery points, log starts, compaction progress.
    pub(crate) fn checkpoint(&self) -> std::io::Result<()> {
        let _alone = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let topics = self.topics();
        let (mut points, mut starts, mut cleaned) = (Vec::new(), Vec::new(), Vec::new());
        for topic in &topics {
            for partition in &topic.partitions {
                let log = partition.log();
                let name: &str = &topic.name;
                if log.exists() {
                    points.push((name, partition.index, log.synced_end(), topic.id));
                }
                if log.log_start() > 0 {
                    starts.push((name, partition.index, log.log_start(), topic.id));
                }
                if log.first_dirty() > 0 {
                    cleaned.push((name, partition.index, log.first_dirty(), topic.id));
                }
            }
        }
        let dir = &self.config.data_dir;
        write_checkpoint(self.fs.as_ref(), &dir.join(RECOVERY_FILE), &points)?;
        write_checkpoint(self.fs.as_ref(), &dir.join(LOG_START_FILE), &starts)?;
        write_checkpoint(self.fs.as_ref(), &dir.join(CLEANER_FILE), &cleaned)
    }
}

fn save(fs: &dyn Fs, config: &BrokerConfig, metadata: &Metadata) -> std::io::Result<()> {
    let bytes = serde_json::to_vec_pretty(metadata)?;
    fs.replace(&config.data_dir.join(METADATA_FILE), &bytes)
}

fn storage(error: &std::io::Error) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "cannot write metadata");
    (ResponseError::KafkaStorageError, "The broker cannot write to its data directory.".to_owned())
}
