//! What transactions cost in the process: `cargo run --release -p towline-broker --example transactions [-- dir]`.
//!
//! One producer appends batches of 1000 records of 100 bytes to two partitions and commits; a reader follows.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use towline_broker::{Acks, BatchBuilder, Broker, BrokerConfig, FetchFrom, FetchLimits, Handle, NewTopic, SyncPolicy};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const RECORDS: usize = 1_000;

#[tokio::main]
async fn main() -> Outcome<()> {
    let dir = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("towline-transactions"), PathBuf::from);
    println!(
        "{:<34}{:>12}{:>14}{:>10}{:>10}",
        "policy, batches a transaction", "commits/s", "records/s", "p50 ms", "p99 ms"
    );
    for policy in [SyncPolicy::GroupCommit, SyncPolicy::PageCache] {
        for (batches, commits) in [(1, 2_000), (5, 1_000), (10, 1_000)] {
            let _ = std::fs::remove_dir_all(&dir);
            measure(&dir, policy, batches, commits).await?;
        }
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

async fn measure(dir: &Path, policy: SyncPolicy, batches: usize, commits: usize) -> Outcome<()> {
    let mut config = BrokerConfig::new(dir);
    config.listeners[0].port = 0;
    config.sync_policy = policy;
    let broker = Broker::start(config).await?;
    let handle = broker.handle();
    let topic = NewTopic { name: "t".to_owned(), partitions: 2, replication_factor: 1, ..NewTopic::default() };
    handle.create_topic(topic, false).await.map_err(|(error, _)| error)?;
    let producer = handle.init_transactional_producer("id", 60_000).await?;
    let expected = batches * commits * RECORDS;
    let reader = tokio::spawn(read(handle.clone(), expected.div_ceil(2)));
    let (began, mut delays) = (Instant::now(), Vec::with_capacity(commits));
    let mut sequences = [0, 0];
    for round in 0..commits {
        handle.add_partitions_to_transaction("id", producer.0, producer.1, [("t", 0), ("t", 1)])?;
        for batch in 0..batches {
            let partition = (round * batches + batch) % 2;
            let bytes = data(producer, sequences[partition]);
            sequences[partition] += RECORDS as i32;
            let appended = handle.append("t", partition as i32, bytes, Acks::None);
            appended.map_err(|refused| refused.error)?;
        }
        let ending = Instant::now();
        handle.end_transaction("id", producer.0, producer.1, true).await?;
        delays.push(ending.elapsed());
    }
    let seconds = began.elapsed().as_secs_f64();
    reader.await??;
    delays.sort();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{:<34}{:>12.0}{:>14.0}{:>10.2}{:>10.2}",
        format!("{policy:?}, {batches}"),
        commits as f64 / seconds,
        expected as f64 / seconds,
        at(0.5),
        at(0.99)
    );
    broker.shutdown().await?;
    Ok(())
}

fn data(producer: (i64, i16), sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(0).producer(producer.0, producer.1, sequence).transactional();
    for _ in 0..RECORDS {
        builder.push(0, None, Some(&[b'x'; 100]));
    }
    builder.build()
}

/// Reads what is committed of one partition, until so many records have come.
async fn read(handle: Handle, expected: usize) -> Outcome<()> {
    let (mut offset, mut bytes) = (0, 0);
    let record = data((0, 0), 0).len() / RECORDS;
    while bytes < expected / 2 * record {
        let from = FetchFrom { topic: "t".to_owned(), partition: 0, offset, max_bytes: 1 << 20 };
        let limits = FetchLimits { max_bytes: 1 << 20, min_bytes: 1, max_wait: Duration::from_millis(500) };
        let found = handle.fetch_committed(&[from], limits).await.remove(0)?;
        bytes += found.records.len();
        offset = found.next_offset;
    }
    Ok(())
}
