//! `confluent-hub install`: what is built in needs no installing, so a Dockerfile's line for it succeeds; what is not
//! built in is refused with the list of what is.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::failure::{Out, Outcome};

/// Plugins of the hub that this binary replaces.
const BUILT_IN: &[&str] = &[
    "confluentinc/kafka-connect-jdbc",
    "confluentinc/connect-transforms",
    "confluentinc/kafka-connect-avro-converter",
    "confluentinc/kafka-connect-json-schema-converter",
    "confluentinc/kafka-connect-protobuf-converter",
    "debezium/debezium-connector-postgresql",
];

/// `confluent-hub`.
#[derive(Debug, Args)]
pub(super) struct HubArgs {
    #[command(subcommand)]
    command: HubCommand,
}

#[derive(Debug, Subcommand)]
enum HubCommand {
    /// Install a plugin: OWNER/NAME:VERSION.
    Install {
        /// The plugin.
        plugin: String,
        /// Accepted and ignored.
        #[arg(long)]
        no_prompt: bool,
        /// Accepted and ignored.
        #[arg(long)]
        component_dir: Option<String>,
        /// Accepted and ignored.
        #[arg(long)]
        worker_configs: Option<String>,
    },
}

pub(super) fn run(args: &HubArgs, out: Out<'_>) -> Outcome<ExitCode> {
    let HubCommand::Install { plugin, .. } = &args.command;
    let name = plugin.split(':').next().unwrap_or_default();
    if BUILT_IN.contains(&name) {
        writeln!(out, "{name}: built in, nothing to install")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{name} is not built in, and plugins in Java cannot be loaded. Built in are:")?;
    for known in BUILT_IN {
        writeln!(out, "  {known}")?;
    }
    Ok(ExitCode::FAILURE)
}
