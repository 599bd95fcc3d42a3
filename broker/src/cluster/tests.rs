//! Changes that cannot be written.

use super::*;
use crate::log::faulty::FaultyFs;

#[test]
fn a_change_that_cannot_be_written_did_not_happen() {
    let (fs, dir) = (FaultyFs::new(), tempfile::tempdir().unwrap());
    let config = Arc::new(BrokerConfig::new(dir.path()));
    let cluster = Cluster::open(fs.clone(), config.clone(), false).unwrap();
    let topic =
        |name: &str| NewTopic { name: name.to_owned(), partitions: 1, replication_factor: 1, ..NewTopic::default() };
    cluster.create_topic(&topic("kept"), false).unwrap();
    let first = cluster.next_producer_id().unwrap();
    fs.die_after(0);
    let failed = ResponseError::KafkaStorageError;
    assert_eq!(cluster.create_topic(&topic("lost"), false).unwrap_err().0, failed);
    assert_eq!(cluster.grow_topic("kept", 5, false).unwrap_err().0, failed);
    let edit = |configs: &mut BTreeMap<String, String>| {
        configs.insert("retention.ms".to_owned(), "5".to_owned());
        Ok(())
    };
    assert_eq!(cluster.set_topic_configs("kept", false, edit).unwrap_err().0, failed);
    assert_eq!(cluster.delete_topic("kept").unwrap_err(), failed);
    let check = |cluster: &Cluster| {
        let topics = cluster.topics();
        assert_eq!((topics.len(), &*topics[0].name, topics[0].partitions.len()), (1, "kept", 1));
        assert!(topics[0].overrides.is_empty());
    };
    check(&cluster);
    fs.die_after(i64::MAX);
    let again = Cluster::open(fs.clone(), config, false).unwrap();
    check(&again);
    assert!(again.next_producer_id().unwrap() > first, "producer ids are never given out twice");
    // A block of ids that cannot be reserved is not used.
    fs.die_after(0);
    let ids = (0..PRODUCER_ID_BLOCK + 1).map(|_| again.next_producer_id()).find_map(Result::err);
    assert_eq!(ids, Some(failed));
    assert_eq!(cluster.topics().len(), 1);
}

#[test]
fn checkpoints_that_are_written_at_the_same_time_all_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let config = Arc::new(BrokerConfig::new(dir.path()));
    let cluster = Cluster::open(FaultyFs::new(), config, false).unwrap();
    let write = || (0..20).try_for_each(|_| cluster.checkpoint());
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(write)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn topics_that_are_created_together_are_all_there_and_each_name_once() {
    let (fs, dir) = (FaultyFs::new(), tempfile::tempdir().unwrap());
    let config = Arc::new(BrokerConfig::new(dir.path()));
    let cluster = Cluster::open(fs.clone(), config.clone(), false).unwrap();
    let create = |name: String| {
        let topic = NewTopic { name, partitions: 1, replication_factor: 1, ..NewTopic::default() };
        cluster.create_topic(&topic, false).map(|topic| topic.name.to_string()).map_err(|(error, _)| error)
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let names = (0..20).map(|i| format!("t{i}")).chain([
            "same".to_owned(),
            "same".to_owned(),
            "a.b".to_owned(),
            "a_b".to_owned(),
        ]);
        let threads: Vec<_> = names.map(|name| scope.spawn(|| create(name))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(outcomes[..20].iter().enumerate().all(|(i, created)| *created == Ok(format!("t{i}"))), "{outcomes:?}");
    let refused = |pair: &[Result<String, ResponseError>]| {
        pair.iter().filter_map(|o| o.as_ref().err().copied()).collect::<Vec<_>>()
    };
    assert_eq!(refused(&outcomes[20..22]), [ResponseError::TopicAlreadyExists]);
    assert_eq!(refused(&outcomes[22..]), [ResponseError::InvalidTopicException]);
    assert_eq!(Cluster::open(fs, config, false).unwrap().topics().len(), 22);
}

#[test]
fn whoever_watches_topics_hears_of_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(FaultyFs::new(), Arc::new(BrokerConfig::new(dir.path())), false).unwrap();
    let mut changes = cluster.watch_topics();
    let mut heard = || {
        let heard = changes.has_changed().unwrap();
        changes.mark_unchanged();
        heard
    };
    let topic = NewTopic { name: "t".to_owned(), partitions: 1, replication_factor: 1, ..NewTopic::default() };
    cluster.create_topic(&topic, true).unwrap();
    assert!(!heard(), "it was only checked");
    cluster.create_topic(&topic, false).unwrap();
    assert!(heard());
    cluster.grow_topic("t", 2, false).unwrap();
    assert!(heard());
    cluster.delete_topic("t").unwrap();
    assert!(heard());
}
