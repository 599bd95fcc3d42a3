//! Transactions across clean stops and crashes of the process.

use super::producer::{TestProducer, committed};
use crate::client::{Client, batch, start};

#[tokio::test]
async fn an_open_transaction_goes_on_after_a_restart() {
    for commit in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut broker = start(dir.path(), &[]).await;
        Client::connect(&broker).await.create("t", 2, &[("segment.bytes", "300")]).await;
        let mut producer = TestProducer::init(Client::connect(&broker).await, "id").await;
        producer.add("t", &[0, 1]).await;
        for (round, clean) in [true, false, false, true].into_iter().enumerate() {
            producer.produce("t", 0, &format!("value {round}")).await;
            // Others go on and roll segments meanwhile.
            for _ in 0..4 {
                assert_eq!(Client::connect(&broker).await.produce("t", batch(&["other"])).await.error_code, 0);
            }
            if clean {
                broker.shutdown().await.unwrap();
            } else {
                drop(broker);
            }
            broker = start(dir.path(), &[]).await;
            let mut client = Client::connect(&broker).await;
            assert_eq!(committed(&mut client, "t", 0).await.2, 0, "nothing is stable");
            producer.client = Client::connect(&broker).await;
        }
        producer.produce("t", 1, "in the other partition").await;
        producer.end(commit).await;
        for clean in [false, true, false] {
            let mut client = Client::connect(&broker).await;
            let (values, aborted, last_stable) = committed(&mut client, "t", 0).await;
            let own: Vec<_> = values.iter().filter(|value| value.starts_with("value")).cloned().collect();
            assert_eq!((values.len() - own.len(), last_stable), (16, 21));
            assert_eq!(own.len(), if commit { 4 } else { 0 });
            assert_eq!(aborted, if commit { vec![] } else { vec![(producer.id, 0)] });
            assert_eq!(committed(&mut client, "t", 1).await.0.len(), usize::from(commit));
            if clean {
                broker.shutdown().await.unwrap();
            } else {
                drop(broker);
            }
            broker = start(dir.path(), &[]).await;
        }
        // The transactional id is still its own.
        producer.client = Client::connect(&broker).await;
        producer.add("t", &[0]).await;
        producer.produce("t", 0, "next").await;
        producer.end(true).await;
    }
}

#[tokio::test]
async fn the_abort_index_goes_with_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = start(dir.path(), &[("log.retention.check.interval.ms", "100000")]).await;
    let mut client = Client::connect(&broker).await;
    client.create("t", 1, &[("segment.bytes", "300")]).await;
    let mut producer = TestProducer::init(Client::connect(&broker).await, "id").await;
    for round in 0..12 {
        producer.add("t", &[0]).await;
        producer.produce("t", 0, &format!("{round}")).await;
        producer.end(round % 2 == 0).await;
    }
    let indexes = || {
        let names = std::fs::read_dir(dir.path().join("t-0")).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".txnindex")).count()
    };
    assert!(indexes() > 3);
    for _ in 0..2 {
        let (values, aborted, _) = committed(&mut client, "t", 0).await;
        assert_eq!((values, aborted.len()), (["0", "2", "4", "6", "8", "10"].map(str::to_owned).to_vec(), 6));
        drop(broker);
        broker = start(dir.path(), &[]).await;
        client = Client::connect(&broker).await;
    }
    broker.handle().delete_records("t", 0, 20).await.unwrap();
    assert!(indexes() <= 2, "{} are left", indexes());
}
