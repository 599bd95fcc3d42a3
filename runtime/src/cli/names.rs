//! The names that the binary answers to: `towline <command>`, and Kafka's and Confluent's script names by argv[0], with
//! or without `.sh` or `.bat`, so that a link named `kafka-topics.sh` is that tool.

/// Script names and the command that each is.
const SCRIPTS: &[&str] = &[
    "kafka-topics",
    "kafka-console-producer",
    "kafka-console-consumer",
    "kafka-consumer-groups",
    "kafka-configs",
    "kafka-get-offsets",
    "kafka-broker-api-versions",
    "kafka-cluster",
    "kafka-storage",
    "kafka-dump-log",
    "kafka-server-start",
    "kafka-server-stop",
    "connect-distributed",
    "connect-standalone",
    "schema-registry-start",
    "zookeeper-server-start",
    "zookeeper-server-stop",
    "confluent-hub",
];

/// The arguments as `towline <command> ...`, whatever name the binary was called by.
pub(super) fn as_command(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_default();
    let mut command = vec!["towline".to_owned()];
    if let Some(script) = script(base_name(&program)) {
        command.push(script.to_owned());
    } else if let Some(first) = arguments.next() {
        // `towline kafka-topics.sh` and `towline bin/kafka-topics.sh` are meant as the command.
        command.push(script(base_name(&first)).map_or(first, str::to_owned));
    }
    // Kafka's start scripts take this one option with a single dash.
    command.extend(arguments.map(|a| if a == "-daemon" { "--daemon".to_owned() } else { a }));
    command
}

fn script(name: &str) -> Option<&'static str> {
    SCRIPTS.iter().find(|script| **script == name).copied()
}

fn base_name(path: &str) -> &str {
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
    [".sh", ".bat", ".exe"].iter().find_map(|end| file.strip_suffix(end)).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> String {
        as_command(line.split(' ').map(str::to_owned)).join(" ")
    }

    #[test]
    fn answers_to_script_names_with_and_without_ending() {
        assert_eq!(command("/opt/kafka/bin/kafka-topics.sh --list"), "towline kafka-topics --list");
        assert_eq!(command("kafka-topics --list"), "towline kafka-topics --list");
        assert_eq!(command(r"C:\kafka\bin\kafka-topics.bat --list"), "towline kafka-topics --list");
        assert_eq!(command("./towline kafka-topics.sh --list"), "towline kafka-topics --list");
        assert_eq!(command("towline up --kafka x:1"), "towline up --kafka x:1");
        assert_eq!(
            command("bin/kafka-server-start.sh -daemon s.properties"),
            "towline kafka-server-start --daemon s.properties"
        );
    }
}
