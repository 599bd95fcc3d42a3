//! Real crashes: a broker in a child process is killed while records stream in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use kafka_protocol::messages::ProduceRequest;
use tokio::process::{Child, Command};

use crate::client::{Client, batch, produce_request, start, until};

const DIR: &str = "TOWLINE_CRASH_TEST_DIR";
const IN_FLIGHT: usize = 5;

/// Not a test of its own: the child process that [`crash`] kills.
#[tokio::test]
async fn the_broker_of_a_child_process() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let broker = start(&dir.join("data"), &[("log.retention.check.interval.ms", "20")]).await;
    let address = broker.local_addrs()[0].to_string();
    std::fs::write(dir.join("address.tmp"), address).unwrap();
    std::fs::rename(dir.join("address.tmp"), dir.join("address")).unwrap();
    std::future::pending::<()>().await;
}

pub(crate) async fn spawn(dir: &Path) -> (Child, SocketAddr) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::the_broker_of_a_child_process"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let file = dir.join("address");
    until(|| async { file.exists() }).await;
    (child, std::fs::read_to_string(file).unwrap().parse().unwrap())
}

/// Streams records, kills the broker after so many answers, and checks that all that was acknowledged is there.
async fn crash(acks: i16, answers: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, address) = spawn(dir.path()).await;
    let mut client = Client::connect_to(address).await;
    assert_eq!(client.create("t", 1, &[("segment.bytes", "20000")]).await, 0);
    let value = |i: usize| format!("{i} {}", "x".repeat(i % 700));
    let (mut sent, mut acknowledged) = (0, Vec::new());
    loop {
        while sent < acknowledged.len() + IN_FLIGHT {
            if !client.try_send(&produce_request("t", batch(&[&value(sent)]), acks), 9).await {
                break;
            }
            sent += 1;
        }
        let Some(response) = client.receive_if_any::<ProduceRequest>(9).await else { break };
        let stored = &response.responses[0].partition_responses[0];
        assert_eq!(stored.error_code, 0);
        acknowledged.push(stored.base_offset);
        if acknowledged.len() == answers {
            child.start_kill().unwrap();
        }
    }
    child.wait().await.unwrap();
    assert!(acknowledged.len() >= answers && sent >= acknowledged.len());
    let broker = start(&dir.path().join("data"), &[]).await;
    let mut client = Client::connect(&broker).await;
    let read = client.read("t", 0).await;
    assert!((acknowledged.len()..=sent).contains(&read.len()), "{} of {sent}", read.len());
    for (i, (offset, _, text)) in read.iter().enumerate() {
        assert_eq!((*offset, text.as_deref()), (i as i64, Some(value(i).as_str())));
    }
    assert!(acknowledged.iter().copied().eq(0..acknowledged.len() as i64));
    assert_eq!(client.produce_values("t", &["goes on"]).await, read.len() as i64);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_killed_broker_has_all_that_was_on_disk_by_its_word() {
    crash(-1, 60).await;
}

#[tokio::test]
async fn a_killed_broker_has_all_that_was_in_the_page_cache_by_its_word() {
    for answers in [1, 50, 400] {
        crash(1, answers).await;
    }
}

#[tokio::test]
async fn a_broker_that_is_dropped_under_load_loses_nothing_and_frees_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut end = 0;
    for round in 0..5 {
        let broker = start(dir.path(), &[]).await;
        let handle = broker.handle().clone();
        let mut client = Client::connect(&broker).await;
        if round == 0 {
            client.create("t", 1, &[]).await;
        }
        assert_eq!(client.read("t", 0).await.len() as i64, end);
        for i in 0..20 {
            assert_eq!(client.produce_values("t", &["v"]).await, end + i);
        }
        for _ in 0..3 {
            client.send(&produce_request("t", batch(&["unanswered"]), -1), 9).await;
        }
        drop(broker);
        // Whoever still has a handle cannot write behind the next broker's back.
        let late = handle.append("t", 0, batch(&["late"]), towline_broker::Acks::All);
        assert!(late.is_err());
        let probe = start(dir.path(), &[]).await;
        end = Client::connect(&probe).await.read("t", 0).await.len() as i64;
        assert!(end >= (round + 1) * 20);
        probe.shutdown().await.unwrap();
    }
}
