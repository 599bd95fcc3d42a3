//! `kafka-cluster`: the cluster's id and its brokers.

use clap::{Args, Subcommand};

use super::bootstrap::Bootstrap;
use super::failure::{Out, Outcome};

/// `kafka-cluster`.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Print the cluster's id.
    ClusterId(Bootstrap),
    /// Print the brokers.
    ListEndpoints(Bootstrap),
}

/// Runs the tool.
pub(super) async fn run(args: ClusterArgs, out: Out<'_>) -> Outcome {
    match args.command {
        ClusterCommand::ClusterId(bootstrap) => {
            let admin = bootstrap.admin().await?;
            match admin.cluster().id.as_str() {
                "" => writeln!(out, "No cluster ID found. The Kafka version is probably too old.")?,
                id => writeln!(out, "Cluster ID: {id}")?,
            }
        }
        ClusterCommand::ListEndpoints(bootstrap) => {
            let admin = bootstrap.admin().await?;
            let nodes = &admin.cluster().nodes;
            let width = nodes.iter().map(|node| node.host.len()).max().unwrap_or(0).max(10);
            writeln!(out, "{:<10} {:<width$} {:<10} {:<10}", "ID", "HOST", "PORT", "RACK")?;
            for node in nodes {
                let rack = node.rack.as_deref().unwrap_or("null");
                writeln!(out, "{:<10} {:<width$} {:<10} {:<10}", node.id, node.host, node.port, rack)?;
            }
        }
    }
    Ok(())
}
