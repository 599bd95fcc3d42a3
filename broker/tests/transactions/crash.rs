//! kill -9 while transactions over two partitions stream in: each is there in both or in none.

use super::producer::{TestProducer, committed};
use crate::client::{Client, start};
use crate::crash::spawn;

#[tokio::test]
async fn a_killed_broker_ends_each_transaction_as_a_whole() {
    for answers in [1, 2, 5, 11, 23, 40] {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, address) = spawn(dir.path()).await;
        Client::connect_to(address).await.create("t", 2, &[("segment.bytes", "2000")]).await;
        // It panics when the connection ends, which is how it learns of the kill.
        let work = tokio::spawn(async move {
            let mut producer = TestProducer::init(Client::connect_to(address).await, "id").await;
            for round in 0.. {
                producer.add("t", &[0, 1]).await;
                producer.produce("t", 0, &format!("{round}")).await;
                producer.produce("t", 1, &format!("{round}")).await;
                producer.end(round % 4 != 3).await;
            }
        });
        let mut client = Client::connect_to(address).await;
        while committed(&mut client, "t", 1).await.0.len() < answers {
            assert!(!work.is_finished(), "the producer failed before the broker was killed");
        }
        child.start_kill().unwrap();
        work.await.unwrap_err();
        child.wait().await.unwrap();
        let broker = start(&dir.path().join("data"), &[]).await;
        let mut client = Client::connect(&broker).await;
        let mut next = TestProducer::init(Client::connect(&broker).await, "id").await;
        let (zero, one) = (committed(&mut client, "t", 0).await, committed(&mut client, "t", 1).await);
        assert!(one.0.len() >= answers);
        assert_eq!(zero.0, one.0, "killed after {answers}");
        next.add("t", &[0, 1]).await;
        next.produce("t", 0, "next").await;
        next.end(true).await;
        assert_eq!(committed(&mut client, "t", 0).await.0.len(), zero.0.len() + 1);
    }
}
