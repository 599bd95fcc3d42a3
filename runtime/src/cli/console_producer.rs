//! `kafka-console-producer`: each line of standard input is a record. A prompt is shown on a terminal only.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use super::bootstrap::{Bootstrap, client_settings, read_properties};
use super::failure::{Failure, Out, Outcome, with_causes};
use super::pairs;
use super::record_lines::LineReader;
use crate::kafka::cluster::Cluster;
use crate::kafka::{Ack, ClientSettings, Kafka, Outgoing};

/// Lines that are sent as one batch at most.
const BATCH_LINES: usize = 10_000;
/// Bytes that are sent as one batch at most.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that wait for their answer at most.
const IN_FLIGHT: usize = 16;

/// `kafka-console-producer`.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct ProducerArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// The topic.
    #[arg(long)]
    topic: Option<String>,
    /// How lines are read: parse.key=true, key.separator=:, parse.headers=true, null.marker=NULL; may be repeated.
    #[arg(long = "reader-property", alias = "property", value_name = "KEY=VALUE", value_parser = pairs::parse)]
    reader: Vec<(String, String)>,
    /// The same from a .properties file.
    #[arg(long, value_name = "FILE")]
    reader_config: Option<PathBuf>,
    /// A setting of the client; may be repeated.
    #[arg(long = "command-property", alias = "producer-property", value_name = "KEY=VALUE", value_parser = pairs::parse)]
    client: Vec<(String, String)>,
    /// Wait for the answer to each line before the next is sent.
    #[arg(long)]
    sync: bool,
    /// gzip, snappy, lz4, zstd or none; gzip without a value.
    #[arg(long, num_args = 0..=1, default_missing_value = "gzip", value_name = "CODEC")]
    compression_codec: Option<String>,
    /// 0, 1, or all (-1).
    #[arg(long, default_value = "-1", allow_hyphen_values = true, value_name = "ACKS")]
    request_required_acks: String,
    /// How long the broker may take to answer, in milliseconds.
    #[arg(long)]
    request_timeout_ms: Option<u64>,
    /// How long a batch waits for more lines, in milliseconds.
    #[arg(long)]
    timeout: Option<u64>,
    /// How large a batch may become, in bytes.
    #[arg(long, alias = "max-partition-memory-bytes")]
    batch_size: Option<u64>,
    /// How often a failed request is sent again.
    #[arg(long)]
    message_send_max_retries: Option<u32>,
    /// How long before it is sent again, in milliseconds.
    #[arg(long)]
    retry_backoff_ms: Option<u64>,
    /// Accepted and ignored, as are the next ones.
    #[arg(long, hide = true)]
    line_reader: Option<String>,
    #[arg(long, hide = true)]
    max_block_ms: Option<u64>,
    #[arg(long, hide = true)]
    max_memory_bytes: Option<u64>,
    #[arg(long, hide = true)]
    metadata_expiry_ms: Option<u64>,
    #[arg(long, hide = true)]
    socket_buffer_size: Option<u64>,
}

/// Runs the tool.
pub(super) async fn run(args: ProducerArgs, _out: Out<'_>) -> Outcome {
    let Some(topic) = args.topic.clone() else {
        return Err(Failure::new("Missing required argument \"[topic]\": add --topic NAME"));
    };
    let mut properties = args.reader_config.as_deref().map_or_else(|| Ok(BTreeMap::new()), read_properties)?;
    properties.extend(args.reader.iter().cloned());
    let mut reader = LineReader::new(&properties)?;
    let settings = settings(&args)?;
    // Says at once, and by name, which server does not answer.
    args.bootstrap.admin().await?;
    let mut common = client_settings(args.bootstrap.settings()?);
    common.insert("bootstrap.servers".to_owned(), args.bootstrap.servers()?.to_owned());
    let producer = Cluster::new(common)?.producer(&settings)?;
    let topic: Arc<str> = Arc::from(topic);
    let mut lines = read_lines()?;
    let mut acks = FuturesOrdered::new();
    let mut stop = None;
    while let Some(first) = lines.recv().await {
        let mut batch = Outgoing::new(topic.clone());
        let mut next = Some(first);
        while let Some(line) = next {
            match line.map_err(|e| Failure::new(format!("cannot read standard input: {e}"))) {
                Ok(line) => stop = reader.read(&line, &mut batch).err(),
                Err(failure) => stop = Some(failure),
            }
            let full = batch.records.len() >= BATCH_LINES || batch.buffer.len() >= BATCH_BYTES;
            next = if full || args.sync || stop.is_some() { None } else { lines.try_recv().ok() };
        }
        if !batch.records.is_empty() {
            acks.push_back(producer.send(batch).await?);
        }
        let allowed = if args.sync { 0 } else { IN_FLIGHT };
        while acks.len() > allowed {
            note(&topic, acks.next().await);
        }
        if stop.is_some() {
            break;
        }
    }
    let mut failed = false;
    while let Some(result) = acks.next().await {
        failed |= note(&topic, Some(result));
    }
    match stop {
        Some(failure) => Err(failure),
        None if failed => Err(Failure::quiet(1)),
        None => Ok(()),
    }
}

/// Tells a batch that could not be written; whether there was one.
fn note(topic: &str, result: Option<<Ack as Future>::Output>) -> bool {
    let Some(Err(error)) = result else { return false };
    eprintln!("ERROR Error when sending message to topic {topic}: {}", with_causes(&error));
    true
}

/// The client's settings by Kafka's names; what is set by property wins over flags.
fn settings(args: &ProducerArgs) -> Outcome<ClientSettings> {
    let acks = match args.request_required_acks.as_str() {
        "all" | "-1" => "all",
        acks @ ("0" | "1") => acks,
        other => return Err(Failure::new(format!("--request-required-acks {other} is not one of 0, 1, all, -1"))),
    };
    let mut settings = ClientSettings::new();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            settings.insert(key.to_owned(), value);
        }
    };
    set("client.id", Some("console-producer".to_owned()));
    set("acks", Some(acks.to_owned()));
    set("delivery.timeout.ms", Some("120000".to_owned()));
    set("compression.type", args.compression_codec.clone());
    set("request.timeout.ms", args.request_timeout_ms.map(|n| n.to_string()));
    set("linger.ms", args.timeout.map(|n| n.to_string()));
    set("batch.size", args.batch_size.map(|n| n.to_string()));
    set("retries", args.message_send_max_retries.map(|n| n.to_string()));
    set("retry.backoff.ms", args.retry_backoff_ms.map(|n| n.to_string()));
    if let Some(path) = &args.bootstrap.command_config {
        settings.extend(client_settings(read_properties(path)?));
        settings.remove("bootstrap.servers");
    }
    settings.extend(args.client.iter().cloned());
    Ok(settings)
}

/// Lines of standard input without their ends, read on a thread of its own, since such a read cannot be cancelled.
fn read_lines() -> Outcome<mpsc::Receiver<io::Result<Vec<u8>>>> {
    let (sender, lines) = mpsc::channel(BATCH_LINES);
    let read = move || {
        let prompt = io::stdin().is_terminal();
        let mut input = io::stdin().lock();
        loop {
            if prompt {
                // A prompt that cannot be shown is no reason to stop.
                let _ = io::stdout().write_all(b">").and_then(|()| io::stdout().flush());
            }
            let mut line = Vec::new();
            let read = match input.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {
                    if line.last() == Some(&b'\n') {
                        line.pop();
                    }
                    if line.last() == Some(&b'\r') {
                        line.pop();
                    }
                    Ok(line)
                }
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(read)
        .map_err(|error| Failure::new(format!("cannot start a thread to read standard input: {error}")))?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn parse(line: &str) -> ProducerArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::ConsoleProducer(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn old_and_new_flags_mean_the_same() {
        let old = parse(
            "towline kafka-console-producer --broker-list b:1 --topic t --property parse.key=true --producer-property a=b --producer.config f",
        );
        let new = parse(
            "towline kafka-console-producer --bootstrap-server b:1 --topic t --reader-property parse.key=true --command-property a=b --command-config f",
        );
        assert_eq!((old.reader, old.client), (new.reader, new.client));
        assert_eq!(old.bootstrap.servers().unwrap(), new.bootstrap.servers().unwrap());
        assert_eq!(old.bootstrap.command_config, new.bootstrap.command_config);
    }

    #[test]
    fn minus_one_is_all() {
        let args = parse(
            "towline kafka-console-producer --broker-list b:1 --topic t --request-required-acks -1 --compression-codec --sync",
        );
        let settings = settings(&args).unwrap();
        assert_eq!((settings["acks"].as_str(), settings["compression.type"].as_str()), ("all", "gzip"));
    }
}
