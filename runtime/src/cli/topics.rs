//! `kafka-topics`: list, describe, create, widen and delete topics. Errors go to stdout, as Kafka's tool has it.

use std::collections::BTreeSet;

use base64::Engine as _;
use clap::Args;
use uuid::Uuid;

use super::admin::{Admin, ConfigResource, ConfigValue, NewTopic, Topic, TopicPartitionState};
use super::bootstrap::Bootstrap;
use super::failure::{Failure, Out, Outcome};
use super::{pairs, zookeeper};

const TOPIC_EXISTS: i16 = 36;
const DEFAULT_CONFIG: i8 = 5;

/// `kafka-topics`.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct TopicsArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    action: Action,
    /// The topic; for all but --create a regular expression, several separated by commas.
    #[arg(long)]
    topic: Option<String>,
    /// The topic by its id, for --describe.
    #[arg(long)]
    topic_id: Option<String>,
    /// How many partitions; the broker's default without it.
    #[arg(long, allow_negative_numbers = true)]
    partitions: Option<i32>,
    /// How many replicas of each partition; the broker's default without it.
    #[arg(long, allow_negative_numbers = true)]
    replication_factor: Option<i16>,
    /// Brokers of each partition: `1:2,2:1` is partition 0 on brokers 1 and 2, partition 1 on 2 and 1.
    #[arg(long, conflicts_with_all = ["partitions", "replication_factor"])]
    replica_assignment: Option<String>,
    /// A topic config, for --create; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// Was removed; kafka-configs does it.
    #[arg(long, hide = true)]
    delete_config: Vec<String>,
    /// Do nothing if the topic exists.
    #[arg(long)]
    if_not_exists: bool,
    /// Do nothing if the topic does not exist.
    #[arg(long)]
    if_exists: bool,
    /// Leave out the broker's own topics.
    #[arg(long)]
    exclude_internal: bool,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Action {
    /// Create a topic.
    #[arg(long)]
    create: bool,
    /// List topics.
    #[arg(long)]
    list: bool,
    /// Show topics and their partitions.
    #[arg(long)]
    describe: bool,
    /// Delete topics.
    #[arg(long)]
    delete: bool,
    /// Give topics more partitions.
    #[arg(long)]
    alter: bool,
}

/// Which partitions `--describe` shows.
#[derive(Debug, Default, Args)]
struct Filter {
    /// Only partitions that lack replicas.
    #[arg(long)]
    under_replicated_partitions: bool,
    /// Only partitions without a leader.
    #[arg(long)]
    unavailable_partitions: bool,
    /// Only partitions with fewer replicas in sync than min.insync.replicas.
    #[arg(long)]
    under_min_isr_partitions: bool,
    /// Only partitions with just as many replicas in sync as min.insync.replicas.
    #[arg(long)]
    at_min_isr_partitions: bool,
    /// Only topics that have configs of their own, without their partitions.
    #[arg(long)]
    topics_with_overrides: bool,
}

impl Filter {
    fn partitions_only(&self) -> bool {
        self.under_replicated_partitions
            || self.unavailable_partitions
            || self.under_min_isr_partitions
            || self.at_min_isr_partitions
    }

    fn shows(&self, partition: &TopicPartitionState, min_isr: usize) -> bool {
        !self.partitions_only()
            || self.under_replicated_partitions && partition.isr.len() < partition.replicas.len()
            || self.unavailable_partitions && partition.leader.is_none()
            || self.under_min_isr_partitions && partition.isr.len() < min_isr
            || self.at_min_isr_partitions && partition.isr.len() == min_isr
    }
}

/// Runs the tool.
pub(super) async fn run(args: TopicsArgs, out: Out<'_>) -> Outcome {
    check(&args)?;
    act(&args, out)
        .await
        .map_err(|failure| failure.told_as(|message| format!("Error while executing topic command : {message}")))
}

/// What can be refused without asking the cluster.
fn check(args: &TopicsArgs) -> Outcome {
    let action = &args.action;
    if !(action.create || action.list || action.describe || action.delete || action.alter) {
        return Err(Failure::new(
            "Command must include exactly one action: --list, --describe, --create, --alter or --delete",
        ));
    }
    let servers = args.bootstrap.servers()?;
    if (action.create || action.delete || action.alter) && args.topic.is_none() {
        return Err(Failure::new("Missing required argument \"[topic]\": add --topic NAME"));
    }
    if action.alter {
        let topic = args.topic.as_deref().unwrap_or_default();
        let command = match (args.config.first(), args.delete_config.first()) {
            (Some(config), _) => Some(zookeeper::alter_topic_config(servers, topic, "--add-config", config)),
            (None, Some(key)) => Some(zookeeper::alter_topic_config(servers, topic, "--delete-config", key)),
            (None, None) => None,
        };
        if let Some(command) = command {
            return Err(Failure::new(format!(
                "kafka-topics --alter changes the number of partitions only; topic configs are changed with: {command}"
            )));
        }
        if args.partitions.is_none() {
            return Err(Failure::new("Missing required argument \"[partitions]\": add --partitions N"));
        }
    }
    Ok(())
}

async fn act(args: &TopicsArgs, out: Out<'_>) -> Outcome {
    let mut admin = args.bootstrap.admin().await?;
    if args.action.create {
        return create(args, &mut admin, out).await;
    }
    let found = find(args, &mut admin).await?;
    if args.action.list {
        let names: Vec<&str> = found.iter().map(|topic| topic.name.as_str()).collect();
        writeln!(out, "{}", names.join("\n"))?;
    } else if args.action.describe {
        describe(args, &found, &mut admin, out).await?;
    } else if found.is_empty() {
        return Ok(());
    } else if args.action.delete {
        admin.delete_topics(&names(&found)).await?;
    } else if let Some(count) = args.partitions {
        eprintln!(
            "WARNING: If partitions are increased for a topic that has a key, the partition logic or ordering of the \
             messages will be affected"
        );
        admin.create_partitions(&names(&found), count).await?;
    }
    Ok(())
}

fn names(topics: &[Topic]) -> Vec<String> {
    topics.iter().map(|topic| topic.name.clone()).collect()
}

async fn create(args: &TopicsArgs, admin: &mut Admin, out: Out<'_>) -> Outcome {
    let name = args.topic.clone().unwrap_or_default();
    if name.contains(['.', '_']) {
        writeln!(
            out,
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could \
             collide. To avoid issues it is best to use either, but not both."
        )?;
    }
    let configs: Result<Vec<_>, _> = args.config.iter().map(|config| pairs::parse(config)).collect();
    let assignment = args.replica_assignment.as_deref().map(parse_assignment).transpose()?.unwrap_or_default();
    let new = NewTopic {
        name,
        partitions: args.partitions.unwrap_or(-1),
        replication_factor: args.replication_factor.unwrap_or(-1),
        assignment,
        configs: configs.map_err(Failure::new)?,
    };
    match admin.create_topic(&new).await {
        Ok(()) => writeln!(out, "Created topic {}.", new.name)?,
        Err(error) if args.if_not_exists && error.code() == Some(TOPIC_EXISTS) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn parse_assignment(text: &str) -> Outcome<Vec<Vec<i32>>> {
    let of = |partition: &str| partition.split(':').map(|node| node.trim().parse()).collect::<Result<Vec<i32>, _>>();
    text.split(',').map(of).collect::<Result<_, _>>().map_err(|_| {
        Failure::new(format!("--replica-assignment {text} is not of the form BROKER:BROKER,BROKER:BROKER"))
    })
}

/// The topics that the command line means.
async fn find(args: &TopicsArgs, admin: &mut Admin) -> Outcome<Vec<Topic>> {
    let mut topics = admin.topics().await?;
    if let Some(id) = &args.topic_id {
        topics.retain(|topic| uuid_text(topic.id) == *id);
        if topics.is_empty() && !args.if_exists {
            return Err(Failure::new(format!("TopicId '{id}' does not exist as expected")));
        }
        return Ok(topics);
    }
    if args.exclude_internal {
        topics.retain(|topic| !topic.internal);
    }
    let Some(pattern) = &args.topic else { return Ok(topics) };
    let matches = TopicPattern::parse(pattern)?;
    topics.retain(|topic| matches.is_match(&topic.name));
    if topics.is_empty() && !args.if_exists && !args.action.list {
        return Err(Failure::new(format!("Topic '{pattern}' does not exist as expected")));
    }
    Ok(topics)
}

/// A topic argument as Kafka's tools read it: a regular expression for the whole name, commas for "or".
#[derive(Debug)]
pub(super) struct TopicPattern(fancy_regex::Regex);

impl TopicPattern {
    /// Parses one.
    pub(super) fn parse(pattern: &str) -> Outcome<Self> {
        let alternatives = pattern.trim().trim_matches(['"', '\'']).replace(',', "|").replace(' ', "");
        fancy_regex::Regex::new(&format!("^(?:{alternatives})$"))
            .map(Self)
            .map_err(|error| Failure::new(format!("{pattern} is an invalid regex: {error}")))
    }

    /// Whether a name is meant. A pattern that is too costly to match matches nothing.
    pub(super) fn is_match(&self, name: &str) -> bool {
        self.0.is_match(name).unwrap_or(false)
    }
}

async fn describe(args: &TopicsArgs, topics: &[Topic], admin: &mut Admin, out: Out<'_>) -> Outcome {
    let resources: Vec<_> = topics.iter().map(|topic| ConfigResource::Topic(topic.name.clone())).collect();
    let configs = admin.configs(&resources).await?;
    for (topic, configs) in topics.iter().zip(&configs) {
        let own: Vec<String> = configs
            .iter()
            .filter(|config| config.source != DEFAULT_CONFIG)
            .map(|config| format!("{}={}", config.name, config.value.as_deref().unwrap_or("null")))
            .collect();
        if args.filter.topics_with_overrides && own.is_empty() {
            continue;
        }
        if !args.filter.partitions_only() {
            writeln!(out, "{}", topic_line(topic, &own))?;
        }
        if args.filter.topics_with_overrides {
            continue;
        }
        let min_isr = min_insync_replicas(configs);
        for partition in topic.partitions.iter().filter(|partition| args.filter.shows(partition, min_isr)) {
            writeln!(out, "{}", partition_line(&topic.name, partition))?;
        }
    }
    Ok(())
}

fn min_insync_replicas(configs: &[ConfigValue]) -> usize {
    let config = configs.iter().find(|config| config.name == "min.insync.replicas");
    config.and_then(|config| config.value.as_deref()?.parse().ok()).unwrap_or(1)
}

fn topic_line(topic: &Topic, configs: &[String]) -> String {
    let id = if topic.id.is_nil() { String::new() } else { format!("\tTopicId: {}", uuid_text(topic.id)) };
    let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    format!(
        "Topic: {}{id}\tPartitionCount: {}\tReplicationFactor: {replicas}\tConfigs: {}",
        topic.name,
        topic.partitions.len(),
        configs.join(",")
    )
}

fn partition_line(topic: &str, partition: &TopicPartitionState) -> String {
    let list = |nodes: &[i32]| nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {}\tReplicas: {}\tIsr: {}\tElr: N/A\tLastKnownElr: N/A",
        partition.partition,
        partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
        list(&partition.replicas),
        list(&partition.isr)
    )
}

/// An id as Kafka writes it: base64 for URLs, without padding.
pub(super) fn uuid_text(id: Uuid) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// Parses `topic`, `topic:1,2` arguments as kafka-consumer-groups takes them; no partitions means all.
pub(super) fn parse_partitions(text: &str) -> Outcome<(String, BTreeSet<i32>)> {
    let Some((topic, partitions)) = text.split_once(':') else { return Ok((text.to_owned(), BTreeSet::new())) };
    let partitions: Result<_, _> = partitions.split(',').map(|number| number.trim().parse()).collect();
    partitions
        .map(|partitions| (topic.to_owned(), partitions))
        .map_err(|_| Failure::new(format!("Invalid topic arg '{text}': write it as TOPIC or TOPIC:0,1,2")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Topic {
        let partition = TopicPartitionState { partition: 0, leader: Some(1), replicas: vec![1, 2], isr: vec![1] };
        Topic { name: "t".into(), id: Uuid::from_u128(1), internal: false, partitions: vec![partition] }
    }

    #[test]
    fn describes_as_kafka_does() {
        let topic = topic();
        assert_eq!(
            topic_line(&topic, &["a=b".into(), "c=d".into()]),
            "Topic: t\tTopicId: AAAAAAAAAAAAAAAAAAAAAQ\tPartitionCount: 1\tReplicationFactor: 2\tConfigs: a=b,c=d"
        );
        assert_eq!(
            partition_line("t", &topic.partitions[0]),
            "\tTopic: t\tPartition: 0\tLeader: 1\tReplicas: 1,2\tIsr: 1\tElr: N/A\tLastKnownElr: N/A"
        );
    }

    #[test]
    fn filters_partitions() {
        let partition = &topic().partitions[0];
        assert!(Filter::default().shows(partition, 1));
        let filter = |f: fn(&mut Filter)| {
            let mut filter = Filter::default();
            f(&mut filter);
            filter
        };
        assert!(filter(|f| f.under_replicated_partitions = true).shows(partition, 1));
        assert!(!filter(|f| f.unavailable_partitions = true).shows(partition, 1));
        assert!(filter(|f| f.at_min_isr_partitions = true).shows(partition, 1));
        assert!(filter(|f| f.under_min_isr_partitions = true).shows(partition, 2));
    }

    #[test]
    fn patterns_match_whole_names_and_commas_are_or() {
        let pattern = TopicPattern::parse("a.*,b").unwrap();
        assert!(pattern.is_match("abc") && pattern.is_match("b") && !pattern.is_match("bc"));
        assert!(TopicPattern::parse("(").is_err());
    }

    #[test]
    fn parses_assignments_and_partitions() {
        assert_eq!(parse_assignment("1:2,2:1").unwrap(), vec![vec![1, 2], vec![2, 1]]);
        assert!(parse_assignment("1:x").is_err());
        assert_eq!(parse_partitions("t:2,0").unwrap(), ("t".to_owned(), BTreeSet::from([0, 2])));
        assert_eq!(parse_partitions("t").unwrap(), ("t".to_owned(), BTreeSet::new()));
    }
}
