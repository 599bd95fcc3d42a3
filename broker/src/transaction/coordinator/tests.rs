//! Crashes and power cuts between any two steps of an end.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::cluster::NewTopic;
use crate::log::Fs;
use crate::log::faulty::FaultyFs;
use crate::transaction::state::{End, TransactionState};
use crate::wire::batch::batches;
use crate::wire::marker::EndMarker;

/// A broker without sockets on a disk that forgets.
struct World {
    fs: Arc<FaultyFs>,
    cluster: Arc<Cluster>,
    coordinator: Arc<Coordinator>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl World {
    fn start(fs: Arc<FaultyFs>, dir: &Path) -> World {
        let config = Arc::new(BrokerConfig { transactions_partitions: 3, ..BrokerConfig::new(dir) });
        let cluster = Arc::new(Cluster::open(fs.clone() as Arc<dyn Fs>, config.clone(), false).unwrap());
        for name in [OFFSETS_TOPIC, TRANSACTIONS_TOPIC, "a", "b"] {
            let topic = NewTopic { name: name.to_owned(), partitions: 3, replication_factor: 1, ..NewTopic::default() };
            let _ = cluster.create_topic(&topic, false);
        }
        let (syncer, threads) = Syncer::start().unwrap();
        let tracker = TaskTracker::new();
        let groups = group::Coordinator::load(cluster.clone(), syncer.clone(), config.clone(), tracker.clone());
        let coordinator = Coordinator::load(cluster.clone(), syncer, config, groups, tracker, false);
        World { fs, cluster, coordinator, threads }
    }

    /// Ends the process, with the page cache or without it, and starts the next.
    async fn restart(self, dir: &Path, power_cut: bool) -> World {
        if power_cut {
            // What was asked for stays undone.
            self.cluster.close();
        }
        self.coordinator.tracker.close();
        self.coordinator.tracker.wait().await;
        self.coordinator.syncer.close();
        self.cluster.close();
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        if power_cut {
            self.fs.lose_unsynced();
        }
        World::start(self.fs, dir)
    }

    /// From now on nothing reaches the disk but what the test syncs.
    fn stop_syncing(&mut self) {
        self.coordinator.syncer.close();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }

    fn partition(&self, topic: &str) -> Arc<Partition> {
        self.cluster.partition(topic, 0).unwrap()
    }

    fn state_log(&self) -> Arc<Partition> {
        self.coordinator.partition_of("id").unwrap()
    }

    fn transaction(&self) -> Transaction {
        self.coordinator.find("id").unwrap().read().clone()
    }

    fn add(&self, (id, epoch): (i64, i16), topics: &[&str]) {
        let partitions = topics.iter().map(|topic| ((*topic).to_owned(), [0].into())).collect();
        self.coordinator.add_partitions("id", id, epoch, &partitions).unwrap();
    }

    fn append(&self, (id, epoch): (i64, i16), topic: &str, sequence: i32) {
        let mut builder = BatchBuilder::new(now_ms()).producer(id, epoch, sequence).transactional();
        builder.push(now_ms(), None, Some(b"value"));
        let bytes = builder.build();
        let header = BatchHeader::parse(&bytes).unwrap();
        let append = || self.partition(topic).log().append(Batch { header, bytes }, 1).unwrap();
        self.coordinator.append(&header, topic, 0, append).unwrap();
    }

    /// Decides the end, and writes the markers, without waiting for anything.
    fn prepare(&self, (id, epoch): (i64, i16), commit: bool, markers: &[&str]) {
        let entry = self.coordinator.find("id").unwrap();
        let End::Prepare(prepared) = entry.read().end(id, epoch, commit, now_ms()).unwrap() else { panic!("ended") };
        self.coordinator.write("id", Some(&prepared)).unwrap();
        for topic in markers {
            assert!(self.coordinator.mark(&self.partition(topic), &prepared, "id").unwrap());
        }
        *entry.write() = Transaction { busy: true, ..prepared };
    }

    async fn ended(&self) -> TransactionState {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let state = self.transaction().state;
            if !state.is_prepared() {
                return state;
            }
            assert!(Instant::now() < deadline, "still {state:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How the transactions in a partition ended; all must have.
    fn ends(&self, topic: &str) -> Vec<bool> {
        let partition = self.partition(topic);
        partition.sync_now().unwrap();
        let open = partition.log().producers().iter().any(|(_, producer)| producer.open_from.is_some());
        assert!(!open, "{topic} has an open transaction");
        if partition.log().end() == 0 {
            return Vec::new();
        }
        let (marks, bytes) = partition.read(0, 1 << 20, true).unwrap();
        assert_eq!(marks.last_stable, marks.high_watermark);
        batches(&bytes).filter_map(|(header, batch)| EndMarker::parse(&header, batch)).map(|m| m.commit).collect()
    }
}

async fn begun(dir: &Path) -> (World, (i64, i16)) {
    let world = World::start(FaultyFs::new(), dir);
    let producer = world.coordinator.init("id", 60_000, None).await.unwrap();
    (world, producer)
}

#[tokio::test]
async fn what_was_prepared_is_carried_out_after_a_crash() {
    for commit in [true, false] {
        for markers in [&[][..], &["a"], &["a", "b"]] {
            let dir = tempfile::tempdir().unwrap();
            let (world, producer) = begun(dir.path()).await;
            world.add(producer, &["a", "b"]);
            world.append(producer, "a", 0);
            world.append(producer, "b", 0);
            world.prepare(producer, commit, markers);
            let world = world.restart(dir.path(), false).await;
            let expected = if commit { TransactionState::CompleteCommit } else { TransactionState::CompleteAbort };
            assert_eq!(world.ended().await, expected);
            assert_eq!((world.ends("a"), world.ends("b")), (vec![commit], vec![commit]));
            let next = world.coordinator.init("id", 60_000, None).await.unwrap();
            assert_eq!(next, (producer.0, producer.1 + 1));
        }
    }
}

#[tokio::test]
async fn a_power_cut_in_an_end_leaves_it_whole_whatever_had_reached_the_disk() {
    for commit in [true, false] {
        for survives in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            let (mut world, producer) = begun(dir.path()).await;
            // A transaction before, with the opposite end.
            world.add(producer, &["a", "b"]);
            world.append(producer, "a", 0);
            world.append(producer, "b", 0);
            world.coordinator.end("id", producer.0, producer.1, !commit).await.unwrap();
            world.state_log().sync_now().unwrap();
            world.add(producer, &["a", "b"]);
            world.append(producer, "a", 1);
            world.append(producer, "b", 1);
            world.partition("a").sync_now().unwrap();
            world.partition("b").sync_now().unwrap();
            world.stop_syncing();
            world.prepare(producer, commit, &["a", "b"]);
            let synced = [world.state_log(), world.partition("a"), world.partition("b")];
            for (bit, partition) in synced.iter().enumerate() {
                if survives & (1 << bit) != 0 {
                    partition.sync_now().unwrap();
                }
            }
            let world = world.restart(dir.path(), true).await;
            if survives == 0 {
                // Nobody was told of the end: it may be an abort, at once or when the producer comes back.
                world.coordinator.init("id", 60_000, None).await.unwrap();
            }
            world.ended().await;
            let expected = vec![!commit, commit && survives != 0];
            assert_eq!((world.ends("a"), world.ends("b")), (expected.clone(), expected), "{survives:03b} {commit}");
            // All goes on, also after another crash.
            let world = world.restart(dir.path(), false).await;
            let next = world.coordinator.init("id", 60_000, None).await.unwrap();
            world.add(next, &["a"]);
            world.append(next, "a", 0);
            world.coordinator.end("id", next.0, next.1, true).await.unwrap();
            assert_eq!(world.ends("a").len(), 3);
        }
    }
}

#[tokio::test]
async fn a_transaction_of_which_only_the_data_is_left_is_aborted() {
    for known in [TransactionState::PrepareCommit, TransactionState::CompleteCommit] {
        let dir = tempfile::tempdir().unwrap();
        let (mut world, producer) = begun(dir.path()).await;
        world.add(producer, &["a", "b"]);
        world.append(producer, "a", 0);
        world.append(producer, "b", 0);
        world.coordinator.end("id", producer.0, producer.1, true).await.unwrap();
        if known == TransactionState::CompleteCommit {
            world.state_log().sync_now().unwrap();
        }
        world.stop_syncing();
        world.add(producer, &["a"]);
        world.append(producer, "a", 1);
        world.partition("a").sync_now().unwrap();
        let world = world.restart(dir.path(), true).await;
        assert_eq!(world.ended().await, TransactionState::CompleteCommit);
        assert_eq!((world.ends("a"), world.ends("b")), (vec![true, false], vec![true]));
        // The same producer may still go on: nobody fenced it.
        world.add(producer, &["b"]);
        world.append(producer, "b", 1);
        world.coordinator.end("id", producer.0, producer.1, true).await.unwrap();
        assert_eq!(world.ends("b"), [true, true]);
    }
}

#[tokio::test]
async fn transactions_of_producers_that_nobody_knows_are_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let (world, producer) = begun(dir.path()).await;
    world.add(producer, &["a"]);
    world.append(producer, "a", 0);
    world.coordinator.write("id", None).unwrap();
    let world = world.restart(dir.path(), false).await;
    assert!(world.coordinator.list().is_empty());
    assert_eq!(world.ends("a"), [false]);
}

#[tokio::test]
async fn a_commit_whose_data_cannot_be_synced_does_not_happen() {
    let dir = tempfile::tempdir().unwrap();
    let (world, producer) = begun(dir.path()).await;
    world.add(producer, &["a"]);
    world.append(producer, "a", 0);
    world.fs.fail_syncs(true);
    let failed = world.coordinator.end("id", producer.0, producer.1, true).await;
    assert_eq!(failed, Err(ResponseError::KafkaStorageError));
    assert_eq!(world.transaction().state, TransactionState::Ongoing);
}
