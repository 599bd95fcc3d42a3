//! What a terminal sees: one binary that is `towline <command>` and, by the name it is called by, Kafka's own tools.
//!
//! Commands print what Kafka's print, to the stream that Kafka's print it to, so that scripts go on working. Each command
//! is one file; `admin` is their client for questions to a cluster, and `serve` starts the servers.

mod admin;
mod bootstrap;
mod broker_api_versions;
mod cluster;
mod concepts;
mod configs;
mod confluent_hub;
mod console_consumer;
mod console_producer;
mod consumer_groups;
mod daemon;
mod dump_log;
mod failure;
mod get_offsets;
mod health;
mod moment;
mod names;
mod pairs;
mod record_lines;
mod serve;
mod storage;
mod topics;
mod verify;
mod zookeeper;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use failure::{Failure, Out, Outcome};
pub use serve::{Role, ServeArgs};

/// A Kafka-protocol broker, Kafka Connect and a schema registry in one binary.
#[derive(Debug, Parser)]
#[command(name = "towline", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything: broker, schema registry, Connect worker and web page.
    Up(serve::UpArgs),
    /// Start the broker alone.
    Broker(serve::BrokerArgs),
    /// Start a Connect worker against a Kafka cluster.
    Connect(serve::ConnectArgs),
    /// Start a schema registry against a Kafka cluster.
    Registry(serve::RegistryArgs),
    /// Compare a table of two PostgreSQL databases.
    Verify(verify::VerifyArgs),
    /// Ask each part whether it answers.
    Health(health::HealthArgs),
    /// Explain the words that Kafka uses.
    Help(concepts::HelpArgs),
    /// List, show, create, widen and delete topics.
    #[command(name = "kafka-topics", alias = "topics")]
    Topics(topics::TopicsArgs),
    /// Write lines of standard input to a topic.
    #[command(name = "kafka-console-producer", alias = "produce")]
    ConsoleProducer(console_producer::ProducerArgs),
    /// Print the records of a topic.
    #[command(name = "kafka-console-consumer", alias = "consume")]
    ConsoleConsumer(console_consumer::ConsumerArgs),
    /// List, show, rewind and delete consumer groups.
    #[command(name = "kafka-consumer-groups", alias = "groups")]
    ConsumerGroups(consumer_groups::GroupsArgs),
    /// Show and change configs of topics, brokers and groups.
    #[command(name = "kafka-configs", alias = "configs")]
    Configs(configs::ConfigsArgs),
    /// Print the offsets of partitions at a time.
    #[command(name = "kafka-get-offsets")]
    GetOffsets(get_offsets::OffsetsArgs),
    /// Print which requests each broker serves in which versions.
    #[command(name = "kafka-broker-api-versions")]
    BrokerApiVersions(broker_api_versions::VersionsArgs),
    /// Print the cluster's id or its brokers.
    #[command(name = "kafka-cluster")]
    Cluster(cluster::ClusterArgs),
    /// Make ids; formatting is not needed.
    #[command(name = "kafka-storage")]
    Storage(storage::StorageArgs),
    /// Print what is in log segment files.
    #[command(name = "kafka-dump-log")]
    DumpLog(dump_log::DumpArgs),
    /// Start a broker with a server.properties file.
    #[command(name = "kafka-server-start")]
    ServerStart(serve::ServerStartArgs),
    /// Stop the broker that `kafka-server-start -daemon` started.
    #[command(name = "kafka-server-stop")]
    ServerStop,
    /// Start a Connect worker with a worker.properties file.
    #[command(name = "connect-distributed")]
    ConnectDistributed(serve::WorkerStartArgs),
    /// Start a Connect worker with a worker.properties file and connectors' files.
    #[command(name = "connect-standalone")]
    ConnectStandalone(serve::WorkerStartArgs),
    /// Start a schema registry with a properties file.
    #[command(name = "schema-registry-start")]
    RegistryStart(serve::RegistryStartArgs),
    /// Not needed: metadata is built in.
    #[command(name = "zookeeper-server-start", alias = "zookeeper-server-stop")]
    Zookeeper(zookeeper::ZookeeperArgs),
    /// Not needed: connectors are built in.
    #[command(name = "confluent-hub")]
    ConfluentHub(confluent_hub::HubArgs),
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let arguments = names::as_command(arguments);
    let mut out = BufWriter::new(io::stdout());
    match run(&arguments, &mut out) {
        Ok(code) => match out.flush() {
            Ok(()) => code,
            Err(error) => Failure::from(error).tell(&mut io::sink()),
        },
        Err(failure) => failure.tell(&mut out),
    }
}

fn run(arguments: &[String], out: Out<'_>) -> Outcome<ExitCode> {
    if let Some(line) = zookeeper::corrected(arguments) {
        return Err(Failure::new(line));
    }
    let command = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.command,
        Err(error) => return refuse(&error, arguments, out),
    };
    match sorted(command) {
        Work::Serve(args) if args.daemon => daemon::start(&args, arguments, out),
        Work::Serve(args) => Ok(serve::serve(&args)),
        Work::Tool(command) => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
            let outcome = runtime.block_on(dispatch(*command, out));
            // A thread that still reads standard input must not hold the process.
            runtime.shutdown_background();
            outcome
        }
    }
}

/// What a command line asks for.
enum Work {
    /// Servers, which have a runtime of their own.
    Serve(Box<ServeArgs>),
    /// A tool.
    Tool(Box<Command>),
}

fn sorted(command: Command) -> Work {
    Work::Serve(Box::new(match command {
        Command::Up(args) => args.into(),
        Command::Broker(args) => args.into(),
        Command::Connect(args) => args.into(),
        Command::Registry(args) => args.into(),
        Command::ServerStart(args) => args.into(),
        Command::ConnectDistributed(args) | Command::ConnectStandalone(args) => args.into(),
        Command::RegistryStart(args) => args.into(),
        tool => return Work::Tool(Box::new(tool)),
    }))
}

async fn dispatch(command: Command, out: Out<'_>) -> Outcome<ExitCode> {
    match command {
        Command::Verify(args) => return verify::run(args, out).await,
        Command::Health(args) => return health::run(args, out).await,
        Command::ConfluentHub(args) => return confluent_hub::run(&args, out),
        Command::Help(args) => concepts::run(&args, out)?,
        Command::Topics(args) => topics::run(args, out).await?,
        Command::ConsoleProducer(args) => console_producer::run(args, out).await?,
        Command::ConsoleConsumer(args) => console_consumer::run(args, out).await?,
        Command::ConsumerGroups(args) => consumer_groups::run(args, out).await?,
        Command::Configs(args) => configs::run(args, out).await?,
        Command::GetOffsets(args) => get_offsets::run(args, out).await?,
        Command::BrokerApiVersions(args) => broker_api_versions::run(args, out).await?,
        Command::Cluster(args) => cluster::run(args, out).await?,
        Command::Storage(args) => storage::run(&args, out)?,
        Command::DumpLog(args) => dump_log::run(&args, out)?,
        Command::ServerStop => daemon::stop("kafka-server-start", out)?,
        Command::Zookeeper(args) => zookeeper::run(&args, out)?,
        // Those that start servers have been taken out before.
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Help and version are answers; all else is told as Kafka's tools do, with exit code 1, and 2 for `verify`, whose 1
/// means that the tables differ.
fn refuse(error: &clap::Error, arguments: &[String], out: Out<'_>) -> Outcome<ExitCode> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            write!(out, "{error}")?;
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            let code = if arguments.get(1).is_some_and(|command| command == "verify") { 2 } else { 1 };
            Err(Failure::new(error.to_string().trim_end()).with_code(code))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_exit_with_one_and_verifys_with_two() {
        let run = |line: &str| {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            run(&arguments, &mut io::sink()).unwrap_err()
        };
        assert!(format!("{:?}", run("towline kafka-topics --no-such")).contains("code: 1"));
        assert!(format!("{:?}", run("towline verify --no-such")).contains("code: 2"));
    }
}
