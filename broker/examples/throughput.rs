//! What Produce and Fetch over TCP cost: `cargo run --release -p towline-broker --example throughput [-- dir [what]]`.
//!
//! The broker runs in a child process, so that its CPU time can be told from the client's. Figures of a first run
//! on a machine that has not touched its memory yet are worth nothing.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, FetchRequest, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use towline_broker::{BatchBuilder, Broker, BrokerConfig};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Kernel clock ticks a second, as `/proc/<pid>/stat` counts CPU time.
const TICKS: f64 = 100.0;
const PRODUCE: i16 = 7;
const FETCH: i16 = 11;

/// One measured way of producing.
struct Scenario {
    name: &'static str,
    batch: usize,
    acks: i16,
    in_flight: usize,
    producers: usize,
    total: usize,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "warm-up", batch: 1 << 20, acks: 1, in_flight: 5, producers: 1, total: 1 << 30 },
    Scenario { name: "large-all", batch: 1 << 20, acks: -1, in_flight: 5, producers: 1, total: 1 << 30 },
    Scenario { name: "large-leader", batch: 1 << 20, acks: 1, in_flight: 5, producers: 1, total: 1 << 30 },
    Scenario { name: "medium-all", batch: 64 << 10, acks: -1, in_flight: 5, producers: 1, total: 256 << 20 },
    Scenario { name: "small-all", batch: 1 << 10, acks: -1, in_flight: 5, producers: 1, total: 4 << 20 },
    Scenario { name: "small-all-x16", batch: 1 << 10, acks: -1, in_flight: 5, producers: 16, total: 16 << 20 },
    Scenario { name: "small-all-alone", batch: 1 << 10, acks: -1, in_flight: 1, producers: 1, total: 1 << 20 },
    Scenario { name: "small-leader", batch: 1 << 10, acks: 1, in_flight: 5, producers: 1, total: 64 << 20 },
];

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let runtime = tokio::runtime::Runtime::new()?;
    match (args.next().as_deref(), args.next()) {
        (Some("broker"), Some(dir)) => runtime.block_on(serve(Path::new(&dir))),
        (dir, only) => {
            let dir = dir.map_or_else(|| std::env::temp_dir().join("towline-throughput"), PathBuf::from);
            let _ = std::fs::remove_dir_all(&dir);
            let result = runtime.block_on(measure(&dir, only.as_deref().unwrap_or("")));
            std::fs::remove_dir_all(&dir)?;
            result
        }
    }
}

async fn serve(dir: &Path) -> Outcome<()> {
    let mut config = BrokerConfig::new(dir);
    config.listeners[0].port = 0;
    let broker = Broker::start(config).await?;
    println!("{}", broker.local_addrs()[0]);
    // Ends when the parent does.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    broker.shutdown().await?;
    Ok(())
}

async fn measure(dir: &Path, only: &str) -> Outcome<()> {
    let me = std::env::current_exe()?;
    let mut child = Command::new(me).arg("broker").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    let out = child.stdout.take().ok_or("no stdout")?;
    BufReader::new(out).read_line(&mut address)?;
    let result = run_all(address.trim(), &child, only).await;
    drop(child.stdin.take());
    child.wait()?;
    result
}

/// Runs the scenarios whose name contains `only`, and the fetches of what they left.
async fn run_all(address: &str, child: &Child, only: &str) -> Outcome<()> {
    println!("{:<18}{:>10}{:>12}{:>14}{:>12}{:>12}", "what", "MB/s", "requests/s", "broker s/GB", "p50 ms", "p99 ms");
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.name.contains(only)) {
        let topic = scenario.name;
        create(address, topic, scenario.producers).await?;
        let (began, cpu) = (Instant::now(), cpu(child)?);
        let mut tasks = Vec::new();
        for partition in 0..scenario.producers {
            tasks.push(tokio::spawn(produce(address.to_owned(), partition as i32, scenario)));
        }
        let mut delays = Vec::new();
        for task in tasks {
            delays.extend(task.await??);
        }
        report(topic, scenario.total, &mut delays, began.elapsed(), self::cpu(child)? - cpu);
    }
    for (name, topic, max_bytes) in [
        ("fetch-large", "large-all", 1 << 20),
        ("fetch-large-8M", "large-all", 8 << 20),
        ("fetch-medium", "medium-all", 1 << 20),
        ("fetch-small", "small-leader", 1 << 20),
    ] {
        if !topic.contains(only) {
            continue;
        }
        let (began, cpu) = (Instant::now(), cpu(child)?);
        let (total, mut delays) = consume(address, topic, max_bytes).await?;
        report(name, total, &mut delays, began.elapsed(), self::cpu(child)? - cpu);
    }
    Ok(())
}

fn report(name: &str, bytes: usize, delays: &mut [Duration], took: Duration, cpu: f64) {
    delays.sort();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let (seconds, bytes) = (took.as_secs_f64(), bytes as f64);
    println!(
        "{name:<18}{:>10.0}{:>12.0}{:>14.2}{:>12.2}{:>12.2}",
        bytes / 1e6 / seconds,
        delays.len() as f64 / seconds,
        cpu / (bytes / 1e9),
        at(0.5),
        at(0.99)
    );
}

/// CPU seconds that the broker has used.
fn cpu(child: &Child) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: f64 = fields.get(11).ok_or("stat")?.parse::<f64>()? + fields.get(12).ok_or("stat")?.parse::<f64>()?;
    Ok(ticks / TICKS)
}

fn frame<R: Request>(request: &R, version: i16) -> Outcome<Bytes> {
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut out = BytesMut::new();
    out.put_i32(0);
    let key = ApiKey::try_from(R::KEY).map_err(|()| "api key")?;
    kafka_protocol::protocol::Encodable::encode(&header, &mut out, key.request_header_version(version))?;
    request.encode(&mut out, version)?;
    let len = out.len() as u32 - 4;
    out[..4].copy_from_slice(&len.to_be_bytes());
    Ok(out.freeze())
}

async fn answer<R: Request>(stream: &mut (impl AsyncReadExt + Unpin), version: i16) -> Outcome<R::Response> {
    let len = stream.read_u32().await? as usize;
    let mut bytes = BytesMut::with_capacity(len);
    while bytes.len() < len {
        if (&mut *stream).take((len - bytes.len()) as u64).read_buf(&mut bytes).await? == 0 {
            return Err("the broker closed the connection".into());
        }
    }
    let mut bytes = bytes.freeze();
    ResponseHeader::decode(&mut bytes, R::Response::header_version(version))?;
    Ok(R::Response::decode(&mut bytes, version)?)
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

async fn create(address: &str, topic: &str, partitions: usize) -> Outcome<()> {
    let mut stream = TcpStream::connect(address).await?;
    let large = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("max.message.bytes"))
        .with_value(Some(StrBytes::from_static_str("2000000")));
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions as i32)
        .with_replication_factor(1)
        .with_configs(vec![large]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
    stream.write_all(&frame(&request, 4)?).await?;
    let created = answer::<CreateTopicsRequest>(&mut stream, 4).await?;
    if created.topics[0].error_code == 0 { Ok(()) } else { Err("cannot create a topic".into()) }
}

fn batch(size: usize) -> Bytes {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let mut builder = BatchBuilder::new(now);
    let value = vec![b'x'; 1000.min(size - 100)];
    for _ in 0..(size / 1010).max(1) {
        builder.push(now, None, Some(&value));
    }
    builder.build()
}

async fn produce(address: String, partition: i32, scenario: &'static Scenario) -> Outcome<Vec<Duration>> {
    let records = PartitionProduceData::default().with_index(partition).with_records(Some(batch(scenario.batch)));
    let topic = TopicProduceData::default().with_name(name(scenario.name)).with_partition_data(vec![records]);
    let request =
        ProduceRequest::default().with_acks(scenario.acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let frame = frame(&request, PRODUCE)?;
    let count = scenario.total / scenario.producers / scenario.batch;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.into_split();
    let window = std::sync::Arc::new(Semaphore::new(scenario.in_flight));
    let (sent, mut times) = tokio::sync::mpsc::unbounded_channel();
    let permits = window.clone();
    let writer = tokio::spawn(async move {
        for _ in 0..count {
            permits.acquire().await?.forget();
            sent.send(Instant::now())?;
            write.write_all(&frame).await?;
        }
        Outcome::Ok(write)
    });
    let mut delays = Vec::with_capacity(count);
    while let Some(began) = times.recv().await {
        let response: ProduceResponse = answer::<ProduceRequest>(&mut read, PRODUCE).await?;
        if response.responses[0].partition_responses[0].error_code != 0 {
            return Err("a produce failed".into());
        }
        delays.push(began.elapsed());
        window.add_permits(1);
    }
    writer.await??;
    Ok(delays)
}

async fn consume(address: &str, topic: &str, max_bytes: i32) -> Outcome<(usize, Vec<Duration>)> {
    let mut stream = TcpStream::connect(address).await?;
    let (mut offset, mut total, mut delays) = (0, 0, Vec::new());
    loop {
        let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(max_bytes);
        let asked = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_max_bytes(50 << 20).with_topics(vec![asked]);
        let began = Instant::now();
        stream.write_all(&frame(&request, FETCH)?).await?;
        let response = answer::<FetchRequest>(&mut stream, FETCH).await?;
        delays.push(began.elapsed());
        let mut records = response.responses[0].partitions[0].records.clone().unwrap_or_default();
        total += records.len();
        if records.is_empty() {
            return Ok((total, delays));
        }
        while records.len() > 61 {
            let (base, len, delta) = ((&records[..]).get_i64(), (&records[8..]).get_i32(), (&records[23..]).get_i32());
            offset = base + i64::from(delta) + 1;
            records.advance((12 + len as usize).min(records.len()));
        }
    }
}
