//! Runs a broker alone: `cargo run -p towline-broker --example serve -- key=value ...` with server.properties keys.

use std::collections::BTreeMap;

use towline_broker::{Broker, BrokerConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pairs =
        std::env::args().skip(1).filter_map(|arg| arg.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())));
    let (config, warnings) = BrokerConfig::from_properties(&pairs.collect::<BTreeMap<_, _>>())?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    let broker = Broker::start(config).await?;
    println!("listening on {:?}, cluster {}", broker.local_addrs(), broker.cluster_id());
    tokio::signal::ctrl_c().await?;
    broker.shutdown().await?;
    Ok(())
}
