//! Scratch: starts everything on given ports.
use std::collections::BTreeMap;
use towline::node::{Node, NodeConfig};
#[tokio::main]
async fn main() {
    towline::telemetry::start(Default::default());
    let dir = std::env::args().nth(1).unwrap();
    let base: u16 = std::env::args().nth(2).unwrap().parse().unwrap();
    let t = std::time::Instant::now();
    let (mut broker, _) = towline_broker::BrokerConfig::from_properties(&BTreeMap::from([
        ("log.dirs".to_string(), dir),
        ("listeners".to_string(), format!("PLAINTEXT://127.0.0.1:{base}")),
    ]))
    .unwrap();
    broker.clamp_replication_factor = true;
    let node = Node::start(NodeConfig {
        broker: Some(broker),
        registry: Some(format!("127.0.0.1:{}", base + 1)),
        connect: Some(format!("127.0.0.1:{}", base + 2)),
        ..Default::default()
    })
    .await;
    match node {
        Ok(node) => {
            eprintln!("started in {:?}", t.elapsed());
            tokio::signal::ctrl_c().await.unwrap();
            node.shutdown().await;
        }
        Err(e) => eprintln!("{}", e.trace()),
    }
}
