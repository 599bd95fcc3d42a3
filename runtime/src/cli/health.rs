//! `towline health`: one line for each part, and success only if all answer. Made for container health checks.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::admin::Admin;
use super::failure::{Failure, Out, Outcome, with_causes};

const PATIENCE: Duration = Duration::from_secs(5);

/// `towline health`. Without flags, all three parts at their usual places.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Connect's REST API.
    #[arg(long, value_name = "URL")]
    connect: Option<String>,
    /// The schema registry.
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// The broker.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
}

/// Runs the tool.
pub(super) async fn run(mut args: HealthArgs, out: Out<'_>) -> Outcome<ExitCode> {
    if args.connect.is_none() && args.registry.is_none() && args.kafka.is_none() {
        args = HealthArgs {
            connect: Some("http://127.0.0.1:8083".to_owned()),
            registry: Some("http://127.0.0.1:8081".to_owned()),
            kafka: Some("127.0.0.1:9092".to_owned()),
        };
    }
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .map_err(|error| Failure::new(format!("cannot start an HTTP client: {}", with_causes(&error))))?;
    let (kafka, registry, connect) = tokio::join!(
        part(args.kafka.as_deref(), ask_kafka),
        part(args.registry.as_deref(), |url| ask(&client, url, "/subjects")),
        part(args.connect.as_deref(), |url| ask(&client, url, "/connectors")),
    );
    let mut all = true;
    for (name, at, answer) in
        [("kafka", &args.kafka, kafka), ("registry", &args.registry, registry), ("connect", &args.connect, connect)]
    {
        let (Some(at), Some(answer)) = (at, answer) else { continue };
        match answer {
            Ok(what) => writeln!(out, "{name:<9} ok      {at}  {what}")?,
            Err(why) => {
                all = false;
                writeln!(out, "{name:<9} failed  {at}  {why}")?;
            }
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Answer = Result<String, String>;

async fn part<'a, F: Future<Output = Answer>>(at: Option<&'a str>, ask: impl FnOnce(&'a str) -> F) -> Option<Answer> {
    match at {
        Some(at) => Some(ask(at).await),
        None => None,
    }
}

async fn ask_kafka(servers: &str) -> Answer {
    match tokio::time::timeout(PATIENCE, Admin::connect(servers, &Default::default())).await {
        Ok(Ok(admin)) => {
            let cluster = admin.cluster();
            Ok(format!("cluster {}, {} broker(s)", cluster.id, cluster.nodes.len()))
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn ask(client: &reqwest::Client, url: &str, path: &str) -> Answer {
    let base = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let response = client
        .get(format!("{}{path}", base.trim_end_matches('/')))
        .send()
        .await
        .map_err(|error| with_causes(&error.without_url()))?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("GET {path} answered {status}"));
    }
    let list: Vec<serde_json::Value> =
        response.json().await.map_err(|_| format!("GET {path} did not answer with a list"))?;
    Ok(format!("{} {}", list.len(), path.trim_start_matches('/')))
}
