//! Questions and orders to the cluster that are not about records.

use std::collections::HashMap;
use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic as RdNewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use towline_connectors::api::{Error, Result, TopicPartition};

use super::group::offset_list;
use super::reader::blocking;
use super::{ClientSettings, client_config, failed, refused};
use crate::kafka::{NewTopic, REQUEST_TIMEOUT};

type Admin = Arc<AdminClient<DefaultClientContext>>;

pub(super) async fn cluster_id(admin: &Admin) -> Result<String> {
    let admin = admin.clone();
    blocking(move || {
        admin
            .inner()
            .fetch_cluster_id(REQUEST_TIMEOUT)
            .ok_or_else(|| Error::retriable("no Kafka broker answered; check bootstrap.servers"))
    })
    .await
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

pub(super) async fn create_topic(admin: &Admin, topic: &NewTopic) -> Result<bool> {
    let what = || format!("cannot create topic {}", topic.name);
    let mut new = RdNewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(topic.replication_factor));
    for (key, value) in &topic.configs {
        new = new.set(key, value);
    }
    let results = admin.create_topics([&new], &options()).await.map_err(|e| failed(what(), e))?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(failed(what(), KafkaError::AdminOp(code))),
        None => Err(Error::fatal(format!("{}: the broker did not answer for it", what()))),
    }
}

pub(super) async fn partitions(admin: &Admin, topic: &str) -> Result<Option<usize>> {
    let (admin, topic) = (admin.clone(), topic.to_owned());
    blocking(move || {
        // All topics are asked for, because asking for one by name could make the broker create it.
        let metadata = admin
            .inner()
            .fetch_metadata(None, REQUEST_TIMEOUT)
            .map_err(|e| failed(format!("cannot learn whether topic {topic} exists"), e))?;
        Ok(metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none()).map(|t| t.partitions().len()))
    })
    .await
}

pub(super) async fn topic_config(admin: &Admin, topic: &str, key: &str) -> Result<Option<String>> {
    let results = admin
        .describe_configs([&ResourceSpecifier::Topic(topic)], &options())
        .await
        .map_err(|e| failed(format!("cannot read the configs of topic {topic}"), e))?;
    Ok(results.into_iter().flatten().find_map(|resource| resource.get(key).and_then(|entry| entry.value.clone())))
}

/// A consumer that only speaks for a group, without joining it.
fn spokesman(common: &ClientSettings, group: &str) -> Result<BaseConsumer> {
    let settings = ClientSettings::from(
        [("group.id", group), ("enable.auto.commit", "false")].map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    client_config(common, &settings).create().map_err(|e| refused("cannot open a consumer", e))
}

pub(super) async fn group_offsets(
    common: &ClientSettings,
    admin: &Admin,
    group: &str,
) -> Result<Vec<(TopicPartition, i64)>> {
    let (admin, consumer, group) = (admin.clone(), spokesman(common, group)?, group.to_owned());
    blocking(move || {
        let what = || format!("cannot read the offsets of group {group}");
        let metadata = admin.inner().fetch_metadata(None, REQUEST_TIMEOUT).map_err(|e| failed(what(), e))?;
        let mut list = TopicPartitionList::new();
        for topic in metadata.topics() {
            for partition in topic.partitions() {
                list.add_partition(topic.name(), partition.id());
            }
        }
        let committed = consumer.committed_offsets(list, REQUEST_TIMEOUT).map_err(|e| failed(what(), e))?;
        let mut names: HashMap<&str, Arc<str>> = HashMap::new();
        let mut found = Vec::new();
        for element in &committed.elements() {
            if let Offset::Offset(offset) = element.offset() {
                let topic = names.entry(element.topic()).or_insert_with(|| Arc::from(element.topic())).clone();
                found.push((TopicPartition { topic, partition: element.partition() }, offset));
            }
        }
        Ok(found)
    })
    .await
}

pub(super) async fn alter_group_offsets(
    common: &ClientSettings,
    admin: &Admin,
    group: &str,
    offsets: &[(TopicPartition, Option<i64>)],
) -> Result<()> {
    // librdkafka's safe interface cannot delete single offsets: the group is deleted and the others are set again.
    let deleted: Vec<_> = offsets.iter().filter(|(_, offset)| offset.is_none()).map(|(at, _)| at.clone()).collect();
    let mut wanted = Vec::new();
    if !deleted.is_empty() {
        let others = group_offsets(common, admin, group).await?;
        wanted.extend(others.into_iter().filter(|(at, _)| !deleted.contains(at)));
        delete_group(admin, group).await?;
    }
    for (at, offset) in offsets {
        if let Some(offset) = offset {
            wanted.retain(|(known, _)| known != at);
            wanted.push((at.clone(), *offset));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let (consumer, list, group) = (spokesman(common, group)?, offset_list(&wanted)?, group.to_owned());
    blocking(move || {
        consumer
            .commit(&list, CommitMode::Sync)
            .map_err(|e| failed(format!("cannot set the offsets of group {group}; are its members stopped?"), e))
    })
    .await
}

pub(super) async fn delete_group(admin: &Admin, group: &str) -> Result<()> {
    let what = || format!("cannot delete group {group}; are its members stopped?");
    let results = admin.delete_groups(&[group], &options()).await.map_err(|e| failed(what(), e))?;
    match results.into_iter().next() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::GroupIdNotFound => {
            Err(failed(what(), KafkaError::AdminOp(code)))
        }
        _ => Ok(()),
    }
}
