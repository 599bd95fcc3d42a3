//! What is left of ZooKeeper: commands from before Kafka 3.0 are answered with the command that replaces them.

use clap::Args;

use super::failure::{Out, Outcome};

/// Whatever a start script was given.
#[derive(Debug, Args)]
pub(super) struct ZookeeperArgs {
    /// Ignored.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _ignored: Vec<String>,
}

/// Says that there is nothing to start, and lets the script go on.
pub(super) fn run(_args: &ZookeeperArgs, out: Out<'_>) -> Outcome {
    writeln!(out, "not needed: metadata is built in")?;
    Ok(())
}

/// For a command line that uses `--zookeeper`: the line that says so and gives the command to type instead.
pub(super) fn corrected(arguments: &[String]) -> Option<String> {
    let tool = arguments.get(1).filter(|tool| tool.starts_with("kafka-") || tool.as_str() == "topics")?;
    if !arguments.iter().any(|a| a == "--zookeeper" || a.starts_with("--zookeeper=")) {
        return None;
    }
    let mut words = Vec::new();
    let mut rest = arguments.iter().skip(2);
    while let Some(word) = rest.next() {
        if word == "--zookeeper" {
            rest.next();
            words.push("--bootstrap-server".to_owned());
            words.push("localhost:9092".to_owned());
        } else if word.starts_with("--zookeeper=") {
            words.push("--bootstrap-server=localhost:9092".to_owned());
        } else {
            words.push(word.clone());
        }
    }
    let line = altered_config(tool, &words).unwrap_or_else(|| format!("{tool} {}", quoted(&words)));
    Some(format!("--zookeeper was removed from Kafka in 3.0. Use --bootstrap-server localhost:9092: {line}"))
}

/// `kafka-topics --alter --config` went away with ZooKeeper: configs are changed with kafka-configs.
fn altered_config(tool: &str, words: &[String]) -> Option<String> {
    let after = |flag: &str| words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1));
    if tool != "kafka-topics" || !words.iter().any(|word| word == "--alter") {
        return None;
    }
    let (flag, change) = match (after("--config"), after("--delete-config")) {
        (Some(config), _) => ("--add-config", config),
        (None, Some(config)) => ("--delete-config", config),
        (None, None) => return None,
    };
    let topic = after("--topic")?;
    Some(alter_topic_config("localhost:9092", topic, flag, change))
}

/// The kafka-configs command that changes a topic's config.
pub(super) fn alter_topic_config(servers: &str, topic: &str, flag: &str, change: &str) -> String {
    // More than one config in one list needs brackets where a value has commas.
    let change = match change.split_once('=') {
        Some((key, value)) if value.contains(',') => format!("{key}=[{value}]"),
        _ => change.to_owned(),
    };
    let words = ["--bootstrap-server", servers, "--alter", "--entity-type", "topics", "--entity-name", topic, flag];
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    words.push(change);
    format!("kafka-configs {}", quoted(&words))
}

/// Words as a shell takes them.
fn quoted(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%[]".contains(c);
    let quote = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn correct(line: &str) -> Option<String> {
        corrected(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_corrected_command_can_be_pasted() {
        assert_eq!(
            correct(
                "towline kafka-topics --create --topic t --zookeeper localhost:2181 --config cleanup.policy=compact"
            )
            .unwrap(),
            "--zookeeper was removed from Kafka in 3.0. Use --bootstrap-server localhost:9092: kafka-topics --create \
             --topic t --bootstrap-server localhost:9092 --config cleanup.policy=compact"
        );
        assert!(
            correct("towline kafka-topics --alter --topic t --zookeeper z:2181 --config cleanup.policy=delete")
                .unwrap()
                .ends_with(
                    ": kafka-configs --bootstrap-server localhost:9092 --alter --entity-type topics --entity-name t \
                     --add-config cleanup.policy=delete"
                )
        );
        assert_eq!(correct("towline kafka-topics --list"), None);
    }
}
