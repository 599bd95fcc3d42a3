//! The command-line tools against a running `towline up`: what a script sees of them, byte by byte where Kafka's own
//! tools have a form.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::harness::{Postgres, Towline, eventually, free_port};

/// What a tool printed and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    out: String,
    err: String,
    code: i32,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

fn run(arguments: &[&str]) -> Ran {
    Command::new(env!("CARGO_BIN_EXE_towline")).args(arguments).stdin(Stdio::null()).output().unwrap().into()
}

/// Runs a tool against a server, with text on its standard input.
fn tool(server: &Towline, line: &str, input: &str) -> Ran {
    let mut process = Command::new(env!("CARGO_BIN_EXE_towline"))
        .args(line.split(' '))
        .args(["--bootstrap-server", &server.kafka])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    // A tool that does not read its input may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    process.wait_with_output().unwrap().into()
}

#[tokio::test]
async fn topics_are_created_listed_described_widened_and_deleted() {
    let server = Towline::start().await;
    let created = tool(&server, "kafka-topics --create --topic hello-world --partitions 1 --replication-factor 1", "");
    assert_eq!((created.out.as_str(), created.code), ("Created topic hello-world.\n", 0));
    let again = tool(&server, "kafka-topics --create --topic hello-world", "");
    assert_eq!(again.out, "Error while executing topic command : Topic 'hello-world' already exists.\n");
    assert_eq!(again.code, 1);
    assert_eq!(tool(&server, "kafka-topics --create --topic hello-world --if-not-exists", "").code, 0);
    let listed = tool(&server, "kafka-topics.sh --list", "").out;
    assert!(listed.lines().any(|name| name == "__consumer_offsets") && listed.lines().is_sorted(), "{listed}");
    let named = tool(&server, "kafka-topics --list --exclude-internal --topic hello.*", "").out;
    assert_eq!(named, "hello-world\n");
    let widened = tool(&server, "kafka-topics --alter --topic hello-world --partitions 3", "");
    assert!(widened.code == 0 && widened.err.contains("ordering of the messages"), "{widened:?}");
    let described = tool(&server, "kafka-topics --describe --topic hello-world", "").out;
    assert!(described.starts_with("Topic: hello-world\tTopicId: "), "{described}");
    assert!(described.contains("\tPartitionCount: 3\tReplicationFactor: 1\tConfigs: "), "{described}");
    assert!(described.contains("\n\tTopic: hello-world\tPartition: 0\tLeader: 1\tReplicas: 1\tIsr: 1"), "{described}");
    assert_eq!(tool(&server, "kafka-topics --describe --under-replicated-partitions", "").out, "");
    assert_eq!(tool(&server, "kafka-topics --delete --topic hello-world", "").code, 0);
    let gone = tool(&server, "kafka-topics --describe --topic hello-world", "");
    assert_eq!(gone.out, "Error while executing topic command : Topic 'hello-world' does not exist as expected\n");
}

#[tokio::test]
async fn what_the_console_producer_writes_the_console_consumer_prints_in_order() {
    let server = Towline::start().await;
    assert_eq!(tool(&server, "kafka-topics --create --topic t --partitions 1", "").code, 0);
    let lines: String = (0..5000).map(|n| format!("{n}\n")).collect();
    let produced = tool(&server, "kafka-console-producer --topic t", &lines);
    assert_eq!((produced.out.as_str(), produced.code), ("", 0), "{produced:?}");
    let read = tool(&server, "kafka-console-consumer --topic t --from-beginning --max-messages 5000", "");
    assert_eq!(read.out, lines);
    assert!(read.err.ends_with("Processed a total of 5000 messages\n"), "{}", read.err);
    let one = tool(&server, "kafka-console-consumer --topic t --partition 0 --offset 4999 --max-messages 1", "");
    assert_eq!(one.out, "4999\n");
}

#[tokio::test]
async fn keys_and_headers_survive_and_a_group_resumes() {
    let server = Towline::start().await;
    assert_eq!(tool(&server, "kafka-topics --create --topic t --partitions 1", "").code, 0);
    let produce = "kafka-console-producer --topic t --sync --property parse.key=true --property key.separator=: \
                   --property parse.headers=true";
    let bad = tool(&server, produce, "h=1\tk:v\n");
    assert_eq!((bad.code, bad.err.contains("No header key separator found in pair 'h=1'")), (1, true), "{bad:?}");
    let produced = tool(&server, produce, "h:1\tk:v\nh:2\tk:w\n");
    assert_eq!(produced.code, 0, "{produced:?}");
    let consume = "kafka-console-consumer --topic t --from-beginning --group zero --max-messages 1 --property \
                   print.key=true --property print.headers=true --property print.offset=true";
    assert_eq!(tool(&server, consume, "").out, "Offset:0\th:1\tk\tv\n");
    let second = tool(&server, consume, "");
    assert_eq!(second.out, "Offset:1\th:2\tk\tw\n");
    assert!(second.err.contains("NOTE group zero has committed offsets"), "{}", second.err);
    let described = tool(&server, "kafka-consumer-groups --describe --group zero", "");
    assert!(described.err.contains("Consumer group 'zero' has no active members."), "{described:?}");
    let row = "zero            t               0          2               2               0 ";
    assert!(described.out.contains(row), "{}", described.out);
    let move_back = "kafka-consumer-groups --reset-offsets --group zero --topic t --to-earliest --execute";
    let moved = tool(&server, move_back, "");
    assert_eq!(moved.code, 0, "{moved:?}");
    assert_eq!(tool(&server, consume, "").out, "Offset:0\th:1\tk\tv\n");
    let deleted = tool(&server, "kafka-consumer-groups --delete --group zero", "");
    assert_eq!(deleted.out, "Deletion of requested consumer groups ('zero') was successful.\n");
    assert_eq!(tool(&server, "kafka-consumer-groups --describe --group zero", "").code, 1);
}

#[tokio::test]
async fn configs_are_changed_and_shown() {
    let server = Towline::start().await;
    assert_eq!(tool(&server, "kafka-topics --create --topic t", "").code, 0);
    let alter = "kafka-configs --alter --entity-type topics --entity-name t --add-config";
    let altered = tool(&server, &format!("{alter} cleanup.policy=[compact,delete]"), "");
    assert_eq!(altered.out, "Completed updating config for topic t.\n");
    let shown = tool(&server, "kafka-configs --describe --topic t", "").out;
    let expected = "Dynamic configs for topic t are:\n  cleanup.policy=compact,delete sensitive=false synonyms={";
    assert!(shown.starts_with(expected), "{shown}");
    assert_eq!(tool(&server, "kafka-configs --alter --topic t --delete-config x", "").err, "Invalid config(s): x\n");
}

#[tokio::test]
async fn health_answers_for_all_three_parts() {
    let server = Towline::start().await;
    let (registry, connect) = (format!("http://{}", server.registry), format!("http://{}", server.connect));
    let arguments = ["health", "--kafka", &server.kafka, "--registry", &registry, "--connect", &connect];
    let healthy = eventually("health", async || Some(run(&arguments)).filter(|ran| ran.code == 0)).await;
    assert_eq!(healthy.out.lines().count(), 3, "{healthy:?}");
}

#[tokio::test]
async fn verify_finds_the_rows_that_differ_in_the_order_of_their_key() {
    let server = Postgres::start().await;
    let pool = server.database("shop").await;
    let url = format!("{}?user=tester&password=tester-secret", server.jdbc("shop"));
    let execute = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    };
    execute(
        "CREATE TABLE a (id serial PRIMARY KEY, ts timestamp, t text);
             INSERT INTO a (ts, t) SELECT '2024-01-01'::timestamp + g * interval '1.000001 s', 'row ' || g
                 FROM generate_series(1, 2000) g;
             CREATE TABLE b (id bigint PRIMARY KEY, ts timestamptz, t varchar(20));
             INSERT INTO b SELECT id, ts AT TIME ZONE 'UTC', t FROM a;",
    )
    .await;
    let verify = |more: &[&str]| {
        let mut arguments = vec!["verify", "--source", &url, "--target", &url, "--table", "a", "--target-table", "b"];
        arguments.extend(more);
        run(&arguments)
    };
    let same = verify(&[]);
    assert!(same.code == 0 && same.out.ends_with("equal: 2000 rows, 3 columns\n"), "{same:?}");
    execute("UPDATE b SET ts = date_trunc('milliseconds', ts)").await;
    let cut = verify(&[]);
    assert!(cut.code == 1 && cut.out.contains("timestamp: precision lost by TimestampConverter"), "{cut:?}");
    assert_eq!(verify(&["--truncate-timestamps", "ms"]).code, 0);
    let change = "DELETE FROM b WHERE id = 9; UPDATE b SET t = NULL WHERE id = 1500; INSERT INTO b VALUES (10000)";
    execute(change).await;
    let different = verify(&["--truncate-timestamps", "ms"]);
    assert_eq!(different.code, 1);
    let shown = "different\n  id=9: only in the source\n  id=1500: t is row 1500 in the source, NULL in the target\n  \
                 id=10000: only in the target\n";
    assert!(different.out.ends_with(shown), "{}", different.out);
    assert_eq!(verify(&["--columns", "nope"]).code, 2);
}

#[test]
fn an_unreachable_server_is_named() {
    let nobody = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    let ran = run(&["kafka-topics", "--list", "--bootstrap-server", &nobody]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.starts_with("Error while executing topic command : ") && ran.out.contains(&nobody), "{ran:?}");
}

#[test]
fn zookeeper_flags_and_scripts_are_answered() {
    let ran = run(&["kafka-topics.sh", "--list", "--zookeeper", "localhost:2181"]);
    assert_eq!((ran.out.as_str(), ran.code), ("", 1));
    assert!(ran.err.ends_with("kafka-topics --list --bootstrap-server localhost:9092\n"), "{}", ran.err);
    let ran = run(&["zookeeper-server-start.sh", "-daemon", "config/zookeeper.properties"]);
    assert_eq!((ran.out.as_str(), ran.code), ("not needed: metadata is built in\n", 0));
    assert_eq!(run(&["confluent-hub", "install", "--no-prompt", "confluentinc/kafka-connect-jdbc:10.2.2"]).code, 0);
    assert_eq!(run(&["confluent-hub", "install", "nobody/nothing:1"]).code, 1);
}
