//! Who gets which partitions: Kafka's range and round-robin assignors, in the wire form of the consumer protocol, so that
//! members elsewhere (any Kafka client) can be in the same group. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

/// The protocols that a member offers, the preferred first: range would give all topics of one partition to one member.
pub(super) const PROTOCOLS: [&str; 2] = ["roundrobin", "range"];

/// Partitions by topic.
pub(super) type Assignment = BTreeMap<String, Vec<i32>>;

/// What a member tells the leader: the topics that it wants.
pub(super) fn subscription(topics: &BTreeSet<String>) -> Bytes {
    let wanted = topics.iter().map(|topic| StrBytes::from_string(topic.clone())).collect();
    versioned(&ConsumerProtocolSubscription::default().with_topics(wanted), 0)
}

/// The topics that a member wants; none if its words are not understood.
pub(super) fn subscribed(mut metadata: Bytes) -> BTreeSet<String> {
    let version = if metadata.len() < 2 { return BTreeSet::new() } else { metadata.get_i16() };
    let read = ConsumerProtocolSubscription::decode(&mut metadata, version.clamp(0, 3));
    read.map_or_else(|_| BTreeSet::new(), |s| s.topics.iter().map(ToString::to_string).collect())
}

/// An assignment as the leader hands it in.
pub(super) fn assignment(partitions: &Assignment) -> Bytes {
    let topics = partitions
        .iter()
        .map(|(topic, partitions)| {
            let name = TopicName(StrBytes::from_string(topic.clone()));
            AssignedTopic::default().with_topic(name).with_partitions(partitions.clone())
        })
        .collect();
    versioned(&ConsumerProtocolAssignment::default().with_assigned_partitions(topics), 0)
}

/// What was assigned to this member; nothing if the leader's words are not understood or there are none.
pub(super) fn assigned(mut bytes: Bytes) -> Assignment {
    let version = if bytes.len() < 2 { return Assignment::new() } else { bytes.get_i16() };
    let Ok(read) = ConsumerProtocolAssignment::decode(&mut bytes, version.clamp(0, 3)) else {
        return Assignment::new();
    };
    read.assigned_partitions.into_iter().map(|topic| (topic.topic.0.to_string(), topic.partitions)).collect()
}

fn versioned(message: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version);
    // Writing into memory fails only for fields that version 0 lacks, and none of those is set.
    let _ = message.encode(&mut out, version);
    out.freeze()
}

/// A member of the group, for the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanting {
    /// Its member id; for static members the instance id decides on its place in the order.
    pub(super) order: String,
    pub(super) topics: BTreeSet<String>,
}

/// Shares out the partitions of `counts` by the group's protocol; answers in the order of `members`.
pub(super) fn assign(protocol: &str, members: &[Wanting], counts: &BTreeMap<String, i32>) -> Vec<Assignment> {
    let mut sorted: Vec<usize> = (0..members.len()).collect();
    sorted.sort_by(|a, b| members[*a].order.cmp(&members[*b].order));
    let mut shares = vec![Assignment::new(); members.len()];
    let mut next = 0;
    for (topic, count) in counts {
        let wanting: Vec<usize> = sorted.iter().copied().filter(|m| members[*m].topics.contains(topic)).collect();
        if wanting.is_empty() {
            continue;
        }
        for partition in 0..*count {
            let member = if protocol == "roundrobin" {
                // The turn goes on from topic to topic, past those who do not want this one.
                while !members[sorted[next % sorted.len()]].topics.contains(topic) {
                    next += 1;
                }
                next += 1;
                sorted[(next - 1) % sorted.len()]
            } else {
                wanting[range_owner(usize::try_from(partition).unwrap_or(0), *count as usize, wanting.len())]
            };
            shares[member].entry(topic.clone()).or_default().push(partition);
        }
    }
    shares
}

/// Which of `members` gets a partition when each gets a run of them and the first ones the remainder.
fn range_owner(partition: usize, count: usize, members: usize) -> usize {
    let (each, more) = (count / members, count % members);
    let in_larger = more * (each + 1);
    if partition < in_larger { partition / (each + 1) } else { more + (partition - in_larger) / each.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(order: &str, topics: &[&str]) -> Wanting {
        Wanting { order: order.to_owned(), topics: topics.iter().map(|t| (*t).to_owned()).collect() }
    }

    fn counts(topics: &[(&str, i32)]) -> BTreeMap<String, i32> {
        topics.iter().map(|(t, n)| ((*t).to_owned(), *n)).collect()
    }

    fn share(entries: &[(&str, &[i32])]) -> Assignment {
        entries.iter().map(|(t, p)| ((*t).to_owned(), p.to_vec())).collect()
    }

    #[test]
    fn range_gives_runs_and_the_remainder_to_the_first() {
        let members = [member("b", &["t", "u"]), member("a", &["t"])];
        let shares = assign("range", &members, &counts(&[("t", 3), ("u", 1), ("v", 9)]));
        assert_eq!(shares[1], share(&[("t", &[0, 1])]));
        assert_eq!(shares[0], share(&[("t", &[2]), ("u", &[0])]));
        let many =
            assign("range", &[member("a", &["t"]), member("b", &["t"]), member("c", &["t"])], &counts(&[("t", 1)]));
        assert_eq!(many.iter().filter(|share| !share.is_empty()).count(), 1);
    }

    #[test]
    fn round_robin_goes_on_from_topic_to_topic() {
        let members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
        let shares = assign("roundrobin", &members, &counts(&[("t", 3), ("u", 3)]));
        assert_eq!(shares[0], share(&[("t", &[0, 2]), ("u", &[1])]));
        assert_eq!(shares[1], share(&[("t", &[1]), ("u", &[0, 2])]));
    }

    #[test]
    fn words_read_back_and_nonsense_is_nothing() {
        let topics = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(subscribed(subscription(&topics)), topics);
        let mine = share(&[("a", &[0, 7])]);
        assert_eq!(assigned(assignment(&mine)), mine);
        for nonsense in [&b""[..], b"\x00", b"\x00\x01\xff\xff", b"\x7f\xff\x00\x00\x00\x01"] {
            assert!(subscribed(Bytes::from_static(nonsense)).is_empty());
            assert!(assigned(Bytes::from_static(nonsense)).is_empty());
        }
    }
}
