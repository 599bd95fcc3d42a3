//! `towline help`: the commands, and a glossary in English and Korean for who meets Kafka for the first time.

use clap::{Args, CommandFactory, ValueEnum};

use super::failure::{Out, Outcome};

/// `towline help`.
#[derive(Debug, Args)]
pub(super) struct HelpArgs {
    /// `concepts`, or a command.
    topic: Option<String>,
    /// The language of the concepts.
    #[arg(long, default_value = "en")]
    lang: Language,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    /// English.
    En,
    /// Korean.
    Ko,
}

/// A word, and what it means in English and Korean.
const CONCEPTS: &[(&str, &str, &str)] = &[
    ("topic", "a named log of messages, such as 'orders'", "메시지를 담는 이름 있는 로그 (예: 'orders')"),
    (
        "partition",
        "a part of a topic; order is kept within one, and several are read in parallel",
        "토픽을 나눈 단위. 순서는 파티션 안에서만 지켜지며, 여러 파티션은 병렬로 읽힌다",
    ),
    (
        "message",
        "key, value, headers and a time; messages of one key go to one partition (also called record)",
        "키, 값, 헤더, 시각으로 이루어진다. 키가 같으면 같은 파티션으로 간다 (레코드라고도 한다)",
    ),
    ("offset", "the number of a message within its partition, from 0", "파티션 안에서 메시지의 번호. 0부터 시작한다"),
    ("producer", "a program that writes messages", "메시지를 쓰는 프로그램"),
    (
        "consumer",
        "a program that reads messages; reading deletes nothing",
        "메시지를 읽는 프로그램. 읽어도 지워지지 않는다",
    ),
    (
        "consumer group",
        "consumers that share a topic's partitions; a partition has one reader in a group, so more members than \
         partitions are idle",
        "토픽의 파티션을 나누어 읽는 컨슈머 묶음. 파티션 하나는 그룹에서 한 컨슈머만 읽으므로, 파티션보다 많은 컨슈머는 쉰다",
    ),
    (
        "commit",
        "a group's note of how far it has read; after a restart it goes on from there",
        "그룹이 어디까지 읽었는지 남기는 기록. 다시 시작하면 거기서 이어 읽는다",
    ),
    ("lag", "how many messages a group has still to read", "그룹이 아직 읽지 않은 메시지 수"),
    ("broker", "a server that keeps topics", "토픽을 보관하는 서버"),
    (
        "replication factor",
        "on how many brokers each partition is kept; 1 on a single node",
        "파티션을 몇 개의 브로커에 보관하는가. 노드가 하나면 1이다",
    ),
    (
        "retention",
        "how long, or how much, a topic keeps; a week by default",
        "토픽이 메시지를 보관하는 기간 또는 크기. 기본은 1주일이다",
    ),
    (
        "acks",
        "when a write counts: 0 = when sent, 1 = when the leader has it, all = when it is safe",
        "쓰기를 성공으로 보는 시점: 0 = 보냈을 때, 1 = 리더가 받았을 때, all = 안전하게 저장됐을 때",
    ),
    (
        "connector",
        "a configuration that copies data into topics (source) or out of them (sink), without code",
        "코드 없이 설정만으로 데이터를 토픽에 넣거나(소스) 꺼내는(싱크) 것",
    ),
    ("task", "a part of a connector's work; tasks run in parallel", "커넥터 작업의 단위. 태스크는 병렬로 돈다"),
    (
        "converter",
        "turns data into a message's bytes and back: JSON, Avro, Protobuf, text",
        "데이터를 메시지의 바이트로, 바이트를 데이터로 바꾼다: JSON, Avro, Protobuf, 문자열",
    ),
    (
        "transform",
        "changes each message on its way through a connector (SMT)",
        "커넥터를 지나는 메시지를 하나씩 바꾼다 (SMT)",
    ),
    (
        "schema registry",
        "keeps the schemas of messages by number, so that messages stay small, and refuses changes that would break \
         their readers",
        "메시지의 스키마를 번호로 보관한다. 메시지가 작아지고, 읽는 쪽을 깨뜨릴 변경은 거절한다",
    ),
    ("dead letter queue", "a topic for messages that a sink could not write", "싱크가 쓰지 못한 메시지를 모으는 토픽"),
];

pub(super) fn run(args: &HelpArgs, out: Out<'_>) -> Outcome {
    match args.topic.as_deref() {
        Some("concepts") => {
            for (word, english, korean) in CONCEPTS {
                let text = match args.lang {
                    Language::En => english,
                    Language::Ko => korean,
                };
                writeln!(out, "{word:<19} {text}")?;
            }
        }
        Some(name) => {
            let mut commands = super::Cli::command();
            match commands.find_subcommand_mut(name) {
                Some(command) => write!(out, "{}", command.render_help())?,
                None => write!(out, "There is no command {name}.\n\n{}", commands.render_help())?,
            }
        }
        None => write!(out, "{}\nTry also: towline help concepts [--lang ko]\n", super::Cli::command().render_help())?,
    }
    Ok(())
}
