//! Members of one group in the broker's process.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use towline_broker::{Broker, BrokerConfig, NewTopic};

use super::group::EmbeddedGroupConsumer;
use super::*;
use crate::kafka::GroupEvent;

/// A broker on a free port.
pub(super) async fn start(dir: &Path) -> Broker {
    let properties = [("log.dirs", dir.to_str().unwrap()), ("listeners", "PLAINTEXT://127.0.0.1:0")];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let (config, _) = BrokerConfig::from_properties(&properties).unwrap();
    Broker::start(config).await.unwrap()
}

async fn create(broker: &Broker, topic: &str) {
    let new = NewTopic { name: topic.to_owned(), partitions: 1, replication_factor: 1, ..NewTopic::default() };
    broker.handle().create_topic(new, false).await.unwrap();
}

/// A member whose next heartbeat is hours away.
fn join(broker: &Broker) -> EmbeddedGroupConsumer {
    join_as(broker, None)
}

fn join_as(broker: &Broker, instance: Option<&str>) -> EmbeddedGroupConsumer {
    let settings = [("group.id", "g"), ("heartbeat.interval.ms", "7200000"), ("session.timeout.ms", "1800000")];
    let instance = instance.map(|instance| ("group.instance.id", instance));
    let settings = settings.into_iter().chain(instance);
    let settings: ClientSettings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let wanted = Subscription::Topics(["a", "b", "c", "d"].map(str::to_owned).to_vec());
    EmbeddedGroupConsumer::join(broker.handle().clone(), &wanted, &settings).unwrap()
}

/// Answers what the members are told until they have these numbers of partitions, none of them twice.
async fn settle(members: &mut [EmbeddedGroupConsumer], counts: &[usize]) {
    let mut held: Vec<BTreeSet<TopicPartition>> = vec![BTreeSet::new(); members.len()];
    let all = async {
        while held.iter().map(BTreeSet::len).ne(counts.iter().copied()) {
            let (event, at, _) = futures_util::future::select_all(members.iter_mut().map(GroupConsumer::next)).await;
            match event.unwrap() {
                GroupEvent::Assigned(partitions, reply) => {
                    held[at] = partitions.into_iter().map(|(partition, _)| partition).collect();
                    reply.send(Vec::new()).unwrap();
                }
                GroupEvent::Revoked(_, reply) => {
                    held[at].clear();
                    reply.send(()).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(60), all).await;
    assert!(settled.is_ok(), "the members wait for a heartbeat: {held:?}");
    let distinct: BTreeSet<_> = held.iter().flatten().collect();
    assert_eq!(distinct.len(), counts.iter().sum::<usize>());
}

#[tokio::test]
async fn members_hear_of_each_other_and_of_topics_without_a_heartbeat() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "a").await;
    create(&broker, "b").await;
    let mut members = vec![join(&broker)];
    settle(&mut members, &[2]).await;
    members.push(join(&broker));
    settle(&mut members[..], &[1, 1]).await;
    for topic in ["c", "d"] {
        create(&broker, topic).await;
    }
    settle(&mut members[..], &[2, 2]).await;
    for member in members {
        Box::new(member).close().await;
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_static_leader_that_is_back_hears_of_topics() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    create(&broker, "a").await;
    let mut members = vec![join_as(&broker, Some("one"))];
    settle(&mut members, &[1]).await;
    Box::new(members.remove(0)).close().await;
    members.push(join_as(&broker, Some("one")));
    settle(&mut members, &[1]).await;
    create(&broker, "b").await;
    settle(&mut members, &[2]).await;
    // One that came while it was away.
    Box::new(members.remove(0)).close().await;
    create(&broker, "c").await;
    members.push(join_as(&broker, Some("one")));
    settle(&mut members, &[3]).await;
    for member in members {
        Box::new(member).close().await;
    }
    broker.shutdown().await.unwrap();
}
