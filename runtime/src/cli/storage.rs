//! `kafka-storage`: ids are made here; formatting happens by itself at the first start.

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::failure::{Out, Outcome};
use super::topics::uuid_text;

/// `kafka-storage`.
#[derive(Debug, Args)]
pub(super) struct StorageArgs {
    #[command(subcommand)]
    command: StorageCommand,
}

#[derive(Debug, Subcommand)]
enum StorageCommand {
    /// Print a new cluster id.
    RandomUuid,
    /// Nothing to do: the data folder is prepared at the first start.
    Format {
        /// Accepted.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _ignored: Vec<String>,
    },
}

pub(super) fn run(args: &StorageArgs, out: Out<'_>) -> Outcome {
    match &args.command {
        StorageCommand::RandomUuid => {
            // As Kafka, no id starts with a dash: a command line would take it for a flag.
            let id = std::iter::repeat_with(|| uuid_text(Uuid::new_v4())).find(|id| !id.starts_with('-'));
            writeln!(out, "{}", id.unwrap_or_default())?;
        }
        StorageCommand::Format { .. } => {
            writeln!(out, "not needed: the data folder is prepared at the first start")?;
        }
    }
    Ok(())
}
