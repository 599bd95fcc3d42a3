//! `kafka-get-offsets`: offsets of partitions at a time, one `topic:partition:offset` a line.

use std::collections::BTreeSet;

use clap::Args;

use super::admin::{EARLIEST, LATEST};
use super::bootstrap::Bootstrap;
use super::failure::{Failure, Out, Outcome};
use super::topics::TopicPattern;

/// `kafka-get-offsets`.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct OffsetsArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Topics, a regular expression; all without it.
    #[arg(long, conflicts_with = "topic_partitions")]
    topic: Option<String>,
    /// Partitions: `0,2,5`.
    #[arg(long)]
    partitions: Option<String>,
    /// Topics and partitions: `topic1:0,topic2:1`.
    #[arg(long)]
    topic_partitions: Option<String>,
    /// Milliseconds, or latest (-1), earliest (-2), max-timestamp (-3).
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    time: String,
    /// Leave out the broker's own topics.
    #[arg(long)]
    exclude_internal_topics: bool,
}

/// Runs the tool.
pub(super) async fn run(args: OffsetsArgs, out: Out<'_>) -> Outcome {
    let time = match args.time.as_str() {
        "latest" => LATEST,
        "earliest" => EARLIEST,
        "max-timestamp" => -3,
        text => text.parse().map_err(|_| {
            Failure::new(format!(
                "Malformed time argument {text}. Please use -1 or latest / -2 or earliest / -3 or max-timestamp, or a \
                 timestamp in milliseconds"
            ))
        })?,
    };
    let chosen = Chosen::parse(&args)?;
    let mut admin = args.bootstrap.admin().await?;
    let topics = admin.topics().await?;
    let mut wanted = Vec::new();
    for topic in topics.iter().filter(|topic| !(args.exclude_internal_topics && topic.internal)) {
        let partitions = topic.partitions.iter().map(|state| state.partition);
        wanted.extend(partitions.filter(|p| chosen.has(&topic.name, *p)).map(|p| (topic.name.clone(), p)));
    }
    if wanted.is_empty() {
        return Err(Failure::new("Could not match any topic-partitions with the specified filters"));
    }
    for ((topic, partition), offset) in admin.offsets_at(&topics, &wanted, time).await? {
        // A partition without a record at that time is shown without an offset.
        let offset = if offset < 0 { String::new() } else { offset.to_string() };
        writeln!(out, "{topic}:{partition}:{offset}")?;
    }
    Ok(())
}

/// The partitions that the command line means.
struct Chosen {
    pairs: Option<BTreeSet<(String, i32)>>,
    topics: Option<TopicPattern>,
    partitions: Option<BTreeSet<i32>>,
}

impl Chosen {
    fn parse(args: &OffsetsArgs) -> Outcome<Self> {
        let number = |text: &str| text.trim().parse::<i32>().ok();
        let pairs = args.topic_partitions.as_deref().map(|text| {
            let pair = |pair: &str| pair.trim().rsplit_once(':').and_then(|(t, p)| Some((t.to_owned(), number(p)?)));
            text.split(',')
                .map(pair)
                .collect::<Option<BTreeSet<_>>>()
                .ok_or_else(|| Failure::new(format!("--topic-partitions {text} is not of the form topic1:0,topic2:1")))
        });
        let partitions = args.partitions.as_deref().map(|text| {
            let numbers = text.split(',').map(number).collect::<Option<BTreeSet<_>>>();
            numbers.ok_or_else(|| Failure::new(format!("--partitions {text} is not of the form 0,1,2")))
        });
        Ok(Self {
            pairs: pairs.transpose()?,
            topics: args.topic.as_deref().map(TopicPattern::parse).transpose()?,
            partitions: partitions.transpose()?,
        })
    }

    fn has(&self, topic: &str, partition: i32) -> bool {
        self.pairs.as_ref().is_none_or(|pairs| pairs.contains(&(topic.to_owned(), partition)))
            && self.topics.as_ref().is_none_or(|topics| topics.is_match(topic))
            && self.partitions.as_ref().is_none_or(|partitions| partitions.contains(&partition))
    }
}
