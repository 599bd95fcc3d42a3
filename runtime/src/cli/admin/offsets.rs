//! Offsets of partitions: their beginning, their end, and the first at or after a time.

use std::collections::BTreeMap;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};

use super::{Admin, AdminError, AdminResult, Topic, meaning, topic_name};

/// Stands for a time: the end of the log.
pub(in crate::cli) const LATEST: i64 = -1;
/// Stands for a time: the beginning of the log.
pub(in crate::cli) const EARLIEST: i64 = -2;

/// Offsets by topic and partition.
type Offsets = BTreeMap<(String, i32), i64>;

impl Admin {
    /// Offsets of partitions at a time ([`LATEST`], [`EARLIEST`] or milliseconds); -1 where no record is that new.
    /// Partitions without a leader or that do not exist are left out.
    pub(in crate::cli) async fn offsets_at(
        &mut self,
        topics: &[Topic],
        wanted: &[(String, i32)],
        time: i64,
    ) -> AdminResult<Offsets> {
        let mut by_leader: BTreeMap<i32, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        for topic in topics {
            for state in &topic.partitions {
                let asked = wanted.iter().any(|(t, p)| *t == topic.name && *p == state.partition);
                if let Some(leader) = state.leader.filter(|_| asked) {
                    by_leader.entry(leader).or_default().entry(&topic.name).or_default().push(state.partition);
                }
            }
        }
        let mut found = Offsets::new();
        for (leader, topics) in by_leader {
            self.ask_leader(leader, &topics, time, &mut found).await?;
        }
        Ok(found)
    }

    async fn ask_leader(
        &mut self,
        leader: i32,
        topics: &BTreeMap<&str, Vec<i32>>,
        time: i64,
        found: &mut Offsets,
    ) -> AdminResult<()> {
        let asked = topics.iter().map(|(name, partitions)| {
            let partitions = partitions
                .iter()
                .map(|partition| ListOffsetsPartition::default().with_partition_index(*partition).with_timestamp(time));
            ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions.collect())
        });
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(asked.collect());
        let connection = self.node(leader).await?;
        let version = connection.version::<ListOffsetsRequest>(8)?;
        let answer = connection.call(version, &request).await?;
        for topic in answer.topics {
            for partition in topic.partitions {
                let (name, number) = (topic.name.to_string(), partition.partition_index);
                if partition.error_code != 0 {
                    return Err(AdminError::Refused {
                        code: partition.error_code,
                        message: format!("offsets of {name}-{number}: {}", meaning(partition.error_code)),
                    });
                }
                found.insert((name, number), partition.offset);
            }
        }
        Ok(())
    }
}
