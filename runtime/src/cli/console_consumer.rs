//! `kafka-console-consumer`: prints the records of a topic, as a member of a group, or of one partition without a group.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::time::Instant;
use towline_connectors::api::{Error, ErrorKind, TopicPartition};

use super::bootstrap::{Bootstrap, client_settings, read_properties};
use super::failure::{Failure, Out, Outcome, with_causes};
use super::pairs;
use super::record_lines::Formatter;
use crate::kafka::cluster::{Cluster, Start};
use crate::kafka::{
    ClientSettings, GroupConsumer, GroupEvent, Incoming, IncomingBatch, Kafka, LogReader, Subscription,
};

/// How often a group's offsets are committed, Kafka's default.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// `kafka-console-consumer`.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct ConsumerArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// The topic.
    #[arg(long)]
    topic: Option<String>,
    /// Topics, a regular expression.
    #[arg(long, alias = "whitelist", conflicts_with = "topic")]
    include: Option<String>,
    /// Start at the beginning where the group has no committed offset.
    #[arg(long)]
    from_beginning: bool,
    /// The consumer group; a random one without it.
    #[arg(long)]
    group: Option<String>,
    /// Read this partition only, without a group.
    #[arg(long, conflicts_with = "include")]
    partition: Option<i32>,
    /// Where to start in the partition: an offset, earliest or latest.
    #[arg(long, requires = "partition", allow_hyphen_values = true)]
    offset: Option<String>,
    /// Stop after so many records.
    #[arg(long, allow_negative_numbers = true)]
    max_messages: Option<i64>,
    /// Stop when there is no record for so long.
    #[arg(long, allow_negative_numbers = true)]
    timeout_ms: Option<i64>,
    /// What is printed: print.key=true, print.timestamp=true, key.separator=: and so on; may be repeated.
    #[arg(long = "formatter-property", alias = "property", value_name = "KEY=VALUE", value_parser = pairs::parse)]
    formatter_properties: Vec<(String, String)>,
    /// The same from a .properties file.
    #[arg(long, value_name = "FILE")]
    formatter_config: Option<PathBuf>,
    /// A setting of the client; may be repeated.
    #[arg(long = "command-property", alias = "consumer-property", value_name = "KEY=VALUE", value_parser = pairs::parse)]
    client: Vec<(String, String)>,
    /// Whether records of open transactions are read.
    #[arg(long, default_value = "read_uncommitted")]
    isolation_level: Isolation,
    /// Go on where a record cannot be printed; accepted.
    #[arg(long)]
    skip_message_on_error: bool,
    /// Accepted: the default formatter is the only one.
    #[arg(long, hide = true)]
    formatter: Option<String>,
    #[arg(long, hide = true)]
    key_deserializer: Option<String>,
    #[arg(long, hide = true)]
    value_deserializer: Option<String>,
    #[arg(long, hide = true)]
    enable_systest_events: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Isolation {
    /// Committed records only.
    ReadCommitted,
    /// All records.
    ReadUncommitted,
}

/// Runs the tool.
pub(super) async fn run(args: ConsumerArgs, out: Out<'_>) -> Outcome {
    check(&args)?;
    let mut properties = args.formatter_config.as_deref().map_or_else(|| Ok(BTreeMap::new()), read_properties)?;
    properties.extend(args.formatter_properties.iter().cloned());
    if let Some(class) = args.formatter.as_deref().filter(|class| !class.ends_with("DefaultMessageFormatter")) {
        eprintln!("WARN formatter {class} is not known here; records are printed as text");
    }
    // Says at once, and by name, which server does not answer.
    let mut admin = args.bootstrap.admin().await?;
    if let (Some(group), true) = (&args.group, args.from_beginning)
        && admin.committed(group).await.is_ok_and(|committed| !committed.is_empty())
    {
        eprintln!(
            "NOTE group {group} has committed offsets and goes on there: --from-beginning counts only where it has none \
             (kafka-consumer-groups --reset-offsets --to-earliest moves it back)"
        );
    }
    let mut common = client_settings(args.bootstrap.settings()?);
    common.insert("bootstrap.servers".to_owned(), args.bootstrap.servers()?.to_owned());
    let cluster = Cluster::new(common)?;
    let mut source = match args.partition {
        Some(partition) => Source::Partition(open_partition(&args, partition, &cluster).await?),
        None => Source::Group(Box::new(join_group(&args, &cluster)?)),
    };
    let mut printer = Printer { formatter: Formatter::new(&properties), out, line: Vec::new(), printed: 0 };
    let outcome = consume(&args, &mut source, &mut printer).await;
    let printed = printer.printed;
    source.close().await;
    let flushed = out.flush();
    eprintln!("Processed a total of {printed} messages");
    outcome?;
    Ok(flushed?)
}

fn check(args: &ConsumerArgs) -> Outcome {
    if args.topic.is_none() && args.include.is_none() {
        return Err(Failure::new("Exactly one of --include/--topic is required."));
    }
    if args.from_beginning && args.offset.is_some() {
        return Err(Failure::new("Options from-beginning and offset cannot be specified together."));
    }
    if args.group.is_some() && args.partition.is_some() {
        return Err(Failure::new("Options group and partition cannot be specified together."));
    }
    Ok(())
}

/// Prints records until there were enough, none came for long enough, or the user stops it.
async fn consume(args: &ConsumerArgs, source: &mut Source, printer: &mut Printer<'_>) -> Outcome {
    let max = args.max_messages.and_then(|max| u64::try_from(max).ok()).unwrap_or(u64::MAX);
    let patience = args.timeout_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    let mut stopped = pin!(stop_signal());
    let mut quiet_since = Instant::now();
    let mut next_commit = Instant::now() + COMMIT_INTERVAL;
    while printer.printed < max {
        let patience_ends = async {
            match patience {
                Some(patience) => tokio::time::sleep_until(quiet_since + patience).await,
                None => std::future::pending().await,
            }
        };
        // All four are cancel-safe: signals and timers by nature, `next` by its contract.
        let event = tokio::select! {
            biased;
            () = &mut stopped => break,
            event = source.next() => event,
            () = patience_ends => {
                eprintln!("ERROR Error processing message, terminating consumer process: no message in time");
                break;
            }
            () = tokio::time::sleep_until(next_commit) => Some(GroupEvent::Records(Vec::new())),
        };
        let Some(event) = event else { break };
        let records = source.handle(event).await?;
        if !records.is_empty() {
            let taken = usize::try_from(max - printer.printed).unwrap_or(usize::MAX).min(records.len());
            printer.print(&records[..taken])?;
            source.printed(&records[..taken]);
            quiet_since = Instant::now();
        }
        if Instant::now() >= next_commit {
            source.commit().await;
            next_commit = Instant::now() + COMMIT_INTERVAL;
        }
    }
    Ok(())
}

/// Resolves when the process is asked to stop.
async fn stop_signal() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<Option<()>>();
    tokio::select! {
        _ = interrupted => {}
        _ = terminated => {}
    }
}

struct Printer<'a> {
    formatter: Formatter,
    out: Out<'a>,
    line: Vec<u8>,
    printed: u64,
}

impl Printer<'_> {
    fn print(&mut self, records: &[Incoming]) -> io::Result<()> {
        for record in records {
            self.line.clear();
            self.formatter.write(record, &mut self.line);
            self.out.write_all(&self.line)?;
        }
        self.printed += records.len() as u64;
        self.out.flush()
    }
}

/// Where records come from.
enum Source {
    Group(Box<Member>),
    Partition(Box<dyn LogReader>),
}

/// A member of a group that commits what has been printed, and nothing more.
struct Member {
    consumer: Box<dyn GroupConsumer>,
    commits: bool,
    printed: BTreeMap<(Arc<str>, i32), i64>,
    warned: bool,
}

impl Source {
    /// What happens next; `None` at the end. Cancel-safe.
    async fn next(&mut self) -> Option<GroupEvent> {
        match self {
            Self::Partition(reader) => reader.next().await.map(GroupEvent::Records),
            Self::Group(member) => member.consumer.next().await,
        }
    }

    /// Answers what the group asks; the records, if it is those.
    async fn handle(&mut self, event: GroupEvent) -> Outcome<Vec<Incoming>> {
        match event {
            GroupEvent::Records(batches) => return Ok(batches.iter().flat_map(IncomingBatch::iter).collect()),
            // Nothing to add: the group's offsets or auto.offset.reset say where to start.
            GroupEvent::Assigned(_, reply) => drop(reply.send(Vec::new())),
            GroupEvent::Revoked(_, reply) => {
                self.commit().await;
                // Without an answer the group takes the partitions anyway.
                let _ = reply.send(());
            }
            GroupEvent::Failed(error) if error.kind() == ErrorKind::Retriable => self.warn(&error),
            GroupEvent::Failed(error) => return Err(error.into()),
        }
        Ok(Vec::new())
    }

    /// Tells a passing error, once until records come again.
    fn warn(&mut self, error: &Error) {
        if let Self::Group(member) = self
            && !std::mem::replace(&mut member.warned, true)
        {
            eprintln!("WARN {}", with_causes(error));
        }
    }

    fn printed(&mut self, records: &[Incoming]) {
        let Self::Group(member) = self else { return };
        member.warned = false;
        for record in records {
            member.printed.insert((record.topic.clone(), record.partition), record.offset + 1);
        }
    }

    async fn commit(&mut self) {
        let Self::Group(member) = self else { return };
        if !member.commits || member.printed.is_empty() {
            return;
        }
        let offsets: Vec<_> = std::mem::take(&mut member.printed)
            .into_iter()
            .map(|((topic, partition), offset)| (TopicPartition { topic, partition }, offset))
            .collect();
        if let Err(error) = member.consumer.commit(&offsets).await {
            eprintln!("WARN {}", with_causes(&error));
        }
    }

    async fn close(mut self) {
        self.commit().await;
        if let Self::Group(member) = self {
            member.consumer.close().await;
        }
    }
}

fn join_group(args: &ConsumerArgs, cluster: &Cluster) -> Outcome<Member> {
    let mut settings = ClientSettings::new();
    let mut set = |key: &str, value: &str| settings.insert(key.to_owned(), value.to_owned());
    set("client.id", "console-consumer");
    set("auto.offset.reset", if args.from_beginning { "earliest" } else { "latest" });
    set("isolation.level", isolation(args));
    set("allow.auto.create.topics", "true");
    if let Some(path) = &args.bootstrap.command_config {
        settings.extend(client_settings(read_properties(path)?));
    }
    settings.extend(args.client.iter().cloned());
    settings.remove("bootstrap.servers");
    let group = args.group.clone().or_else(|| settings.get("group.id").cloned());
    // As in Kafka, a group that nobody named leaves no offsets behind.
    let commits = match settings.remove("enable.auto.commit") {
        Some(text) => text.trim() == "true",
        None => group.is_some(),
    };
    let group = group.unwrap_or_else(|| format!("console-consumer-{}", uuid::Uuid::new_v4().as_u128() % 100_000));
    settings.insert("group.id".to_owned(), group);
    let subscription = match (&args.topic, &args.include) {
        (Some(topic), _) => Subscription::Topics(vec![topic.clone()]),
        (None, include) => Subscription::Pattern(include.clone().unwrap_or_default()),
    };
    let consumer = cluster.group_consumer(&subscription, &settings)?;
    Ok(Member { consumer, commits, printed: BTreeMap::new(), warned: false })
}

fn isolation(args: &ConsumerArgs) -> &'static str {
    match args.isolation_level {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    }
}

async fn open_partition(args: &ConsumerArgs, partition: i32, cluster: &Cluster) -> Outcome<Box<dyn LogReader>> {
    let topic = args.topic.as_deref().unwrap_or_default();
    let start = match args.offset.as_deref() {
        None if args.from_beginning => Start::Beginning,
        None | Some("latest") => Start::End,
        Some("earliest") => Start::Beginning,
        Some(text) => match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Start::At(offset),
            Ok(-2) => Start::Beginning,
            Ok(-1) => Start::End,
            _ => {
                return Err(Failure::new(format!(
                    "The provided offset value '{text}' is incorrect. Valid values are 'earliest', 'latest', or a \
                     non-negative integer."
                )));
            }
        },
    };
    match cluster.partitions(topic).await? {
        Some(count) if (0..count).contains(&usize::try_from(partition).unwrap_or(usize::MAX)) => {}
        Some(count) => {
            return Err(Failure::new(format!(
                "topic {topic} has {count} partition(s), there is no partition {partition}"
            )));
        }
        None => return Err(Failure::new(format!("topic {topic} does not exist"))),
    }
    let at = TopicPartition { topic: Arc::from(topic), partition };
    let settings = ClientSettings::from([("isolation.level".to_owned(), isolation(args).to_owned())]);
    Ok(cluster.partition_reader(&at, start, &settings)?)
}
