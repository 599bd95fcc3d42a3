//! Creating topics: those that are asked for while the metadata are being written share the next write.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::{Changes, Cluster, NewTopic, Refusal, Topic, TopicRecord, storage};
use crate::config::TopicConfig;
use crate::log::{Log, Partition};

/// A topic that somebody wants created, and what became of it.
#[derive(Debug)]
pub(super) struct Asked {
    new: NewTopic,
    outcome: Mutex<Option<Result<Arc<Topic>, Refusal>>>,
}

impl Asked {
    fn answer(&self, outcome: Result<Arc<Topic>, Refusal>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

impl Cluster {
    /// Creates a topic, or only checks it. Blocks on the disk. Those that are asked for while another is written are
    /// written together.
    pub(crate) fn create_topic(&self, new: &NewTopic, validate_only: bool) -> Result<Arc<Topic>, Refusal> {
        if validate_only {
            let _changes = self.change();
            return self.stage(new, &[]);
        }
        let asked = Arc::new(Asked { new: new.clone(), outcome: Mutex::default() });
        self.asked().push(asked.clone());
        let mut changes = self.change();
        let all = std::mem::take(&mut *self.asked());
        if !all.is_empty() {
            self.create_asked(&mut changes, &all);
        }
        // Whoever took it from the list has answered it before he let go of the changes.
        let outcome = asked.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or_else(|| Err((ResponseError::UnknownServerError, "The topic was not created.".to_owned())))
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Arc<Asked>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates topics by one change of the metadata, and answers each.
    fn create_asked(&self, changes: &mut Changes, all: &[Arc<Asked>]) {
        let mut staged: Vec<Arc<Topic>> = Vec::new();
        let mut metadata = changes.metadata.clone();
        let (mut good, mut held) = (Vec::new(), Vec::new());
        for asked in all {
            match self.stage(&asked.new, &staged) {
                Ok(topic) => {
                    let record = TopicRecord {
                        id: topic.id.to_string(),
                        partitions: topic.partitions.len() as i32,
                        configs: asked.new.configs.clone(),
                        leader_epoch: 0,
                    };
                    metadata.topics.insert(asked.new.name.clone(), record);
                    staged.push(topic);
                    good.push(asked);
                }
                // It may be for a topic that is not there yet.
                Err(refusal) if !staged.is_empty() => held.push((asked, refusal)),
                Err(refusal) => asked.answer(Err(refusal)),
            }
        }
        if staged.is_empty() {
            return;
        }
        if let Err(failure) = self.commit(changes, metadata) {
            good.iter().for_each(|asked| asked.answer(Err(failure.clone())));
            for (asked, _) in held {
                let refusal = self.check_new(&asked.new, &[]).err().unwrap_or_else(|| failure.clone());
                asked.answer(Err(refusal));
            }
            return;
        }
        self.write(|state| {
            for topic in &staged {
                state.by_id.insert(topic.id, topic.name.clone());
                state.topics.insert(topic.name.clone(), topic.clone());
            }
        });
        for (asked, topic) in good.into_iter().zip(staged) {
            tracing::info!(topic = %topic.name, partitions = topic.partitions.len(), "topic created");
            asked.answer(Ok(topic));
        }
        held.into_iter().for_each(|(asked, refusal)| asked.answer(Err(refusal)));
        self.topics_changed();
    }

    /// A new topic that nobody sees yet.
    fn stage(&self, new: &NewTopic, staged: &[Arc<Topic>]) -> Result<Arc<Topic>, Refusal> {
        let count = self.check_new(new, staged)?;
        let config = Arc::new(TopicConfig::resolve(&new.configs, &self.broker_defaults()));
        let (id, name): (Uuid, Arc<str>) = (Uuid::new_v4(), Arc::from(new.name.as_str()));
        let partition = |index| -> Result<_, Refusal> {
            let log = Log::open(self.setup(&name, index, id, &config)).map_err(|e| storage(&e))?;
            Ok(Partition::new(index, log))
        };
        let partitions = (0..count).map(partition).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(Topic { name, id, partitions, overrides: new.configs.clone(), config }))
    }
}
