//! An admin client of our own, for what the command-line tools show and the worker never needs: topic ids, group
//! members, configs with their synonyms.
//!
//! It speaks to any Kafka cluster over plain TCP, with SASL/PLAIN if asked, in the newest version that both sides know.
//! Requests go where Kafka wants them: to the controller, to a group's coordinator, to a partition's leader.

mod configs;
mod connection;
mod groups;
mod offsets;
mod topics;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, FindCoordinatorRequest, MetadataRequest, MetadataResponse,
    TopicName, metadata_request::MetadataRequestTopic,
};
use kafka_protocol::protocol::{Request, StrBytes};

pub(super) use configs::{ConfigChange, ConfigResource, ConfigValue, source_name};
use connection::{Connection, Login};
pub(super) use connection::{api_name, jaas_option, newest_known};
pub(super) use groups::{Committed, Group, Member};
pub(super) use offsets::{EARLIEST, LATEST};
pub(super) use topics::{NewTopic, Topic, TopicPartitionState};

/// How long a passing refusal (a coordinator that loads) is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the broker may take for an order.
const ORDER_TIMEOUT_MS: i32 = 30_000;

/// Why an admin request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// No server answered.
    #[error("{0}")]
    Unreachable(String),
    /// A server answered what is not Kafka's protocol, or not enough of it.
    #[error("{0}")]
    Protocol(String),
    /// The broker refused.
    #[error("{message}")]
    Refused {
        /// Kafka's error code.
        code: i16,
        /// The broker's words, or Kafka's for the code.
        message: String,
    },
}

/// A result of an admin request.
pub(super) type AdminResult<T> = Result<T, AdminError>;

impl AdminError {
    /// Kafka's error code, if the broker gave one.
    pub(super) fn code(&self) -> Option<i16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    fn refused(code: i16, message: Option<&StrBytes>) -> Self {
        let message = match message.map(|text| text.as_str()).filter(|text| !text.is_empty()) {
            Some(text) => text.to_owned(),
            None => meaning(code),
        };
        Self::Refused { code, message }
    }
}

/// An error code as a result, with the broker's message if it sent one.
fn check(code: i16, message: Option<&StrBytes>) -> AdminResult<()> {
    if code == 0 { Ok(()) } else { Err(AdminError::refused(code, message)) }
}

/// What Kafka's clients say for an error code that comes without a message.
pub(super) fn meaning(code: i16) -> String {
    let known = match code {
        -1 => "The server experienced an unexpected error when processing the request.",
        1 => "The requested offset is not within the range of offsets maintained by the server.",
        3 => "This server does not host this topic-partition.",
        5 => "There is no leader for this topic-partition as we are in the middle of a leadership election.",
        7 => "The request timed out.",
        14 => "The coordinator is loading and hence can't process requests.",
        15 => "The coordinator is not available.",
        16 => "This is not the correct coordinator.",
        17 => "The request attempted to perform an operation on an invalid topic.",
        24 => "The group id is invalid.",
        25 => "The coordinator is not aware of this member.",
        29 => "Topic authorization failed.",
        30 => "Group authorization failed.",
        31 => "Cluster authorization failed.",
        35 => "The version of API is not supported.",
        36 => "Topic with this name already exists.",
        37 => "Number of partitions is below 1.",
        38 => "Replication factor is below 1 or larger than the number of available brokers.",
        39 => "Replica assignment is invalid.",
        40 => "Configuration is invalid.",
        41 => "This is not the correct controller for this cluster.",
        42 => {
            "This most likely occurs because of a request being malformed by the client library or the message was \
             sent to an incompatible broker."
        }
        44 => "Request parameters do not satisfy the configured policy.",
        54 => "Security features are disabled.",
        58 => "SASL authentication failed.",
        68 => "The group is not empty.",
        69 => "The group id does not exist.",
        73 => "Topic deletion is disabled.",
        86 => "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it.",
        100 => "This server does not host this topic ID.",
        code => return format!("the broker answered error code {code}"),
    };
    known.to_owned()
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Its id.
    pub(super) id: i32,
    /// The host it advertises.
    pub(super) host: String,
    /// The port it advertises.
    pub(super) port: i32,
    /// Its rack.
    pub(super) rack: Option<String>,
}

impl Node {
    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The cluster as its metadata shows it.
#[derive(Debug, Clone)]
pub(super) struct ClusterView {
    /// The cluster's id.
    pub(super) id: String,
    /// The node that takes orders about topics.
    pub(super) controller: i32,
    /// All nodes.
    pub(super) nodes: Vec<Node>,
}

/// A client for questions and orders.
#[derive(Debug)]
pub(super) struct Admin {
    first: Connection,
    login: Option<Login>,
    cluster: ClusterView,
    others: BTreeMap<i32, Connection>,
}

impl Admin {
    /// Connects to the first server of a comma list that answers.
    pub(super) async fn connect(servers: &str, settings: &BTreeMap<String, String>) -> AdminResult<Self> {
        let login = Login::from_settings(settings)?;
        let mut first = connect_to_any(servers, login.as_ref()).await?;
        let version = first.version::<MetadataRequest>(9)?;
        // No topics are asked for, so that none is created by asking.
        let request = MetadataRequest::default()
            .with_topics(if version == 0 { None } else { Some(Vec::new()) })
            .with_allow_auto_topic_creation(true);
        let answer = first.call(version, &request).await?;
        Ok(Self { first, login, cluster: cluster_view(&answer), others: BTreeMap::new() })
    }

    /// The cluster's id, controller and nodes.
    pub(super) fn cluster(&self) -> &ClusterView {
        &self.cluster
    }

    /// What the connected server says about itself.
    pub(super) async fn api_versions(&mut self, node: i32) -> AdminResult<ApiVersionsResponse> {
        let connection = self.node(node).await?;
        let version = connection.version::<ApiVersionsRequest>(3)?;
        connection.call(version, &connection::api_versions_request(version)).await
    }

    /// Metadata of some topics, or of all; never creates any.
    async fn metadata(&mut self, topics: Option<&[String]>) -> AdminResult<MetadataResponse> {
        let version = self.first.version::<MetadataRequest>(12)?;
        let topics = topics.map(|names| {
            names.iter().map(|n| MetadataRequestTopic::default().with_name(Some(topic_name(n)))).collect()
        });
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(version < 4);
        let answer = self.first.call(version, &request).await?;
        self.cluster = cluster_view(&answer);
        Ok(answer)
    }

    /// The connection to a node, by the address that it advertises; the first connection if it is unknown.
    async fn node(&mut self, id: i32) -> AdminResult<&mut Connection> {
        if self.others.contains_key(&id) {
            return self.others.get_mut(&id).ok_or_else(|| AdminError::Protocol(format!("broker {id} is gone")));
        }
        let Some(node) = self.cluster.nodes.iter().find(|node| node.id == id) else {
            return Ok(&mut self.first);
        };
        let address = node.address();
        if address == self.first.peer() || self.cluster.nodes.len() == 1 {
            return Ok(&mut self.first);
        }
        let opened = Connection::open(&address, self.login.as_ref()).await.map_err(|error| {
            AdminError::Unreachable(format!(
                "broker {id} advertises {address}, which does not answer from here: {error}; check that broker's \
                 advertised.listeners"
            ))
        })?;
        Ok(self.others.entry(id).or_insert(opened))
    }

    async fn controller(&mut self) -> AdminResult<&mut Connection> {
        let id = self.cluster.controller;
        self.node(id).await
    }

    /// The node that coordinates a group; waits while it is being found.
    pub(super) async fn coordinator(&mut self, group: &str) -> AdminResult<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ask_coordinator(group).await {
                Err(error) if matches!(error.code(), Some(14..=16)) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn ask_coordinator(&mut self, group: &str) -> AdminResult<i32> {
        let version = self.first.version::<FindCoordinatorRequest>(4)?;
        let key = StrBytes::from_string(group.to_owned());
        let request = if version >= 4 {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![key])
        } else {
            FindCoordinatorRequest::default().with_key(key)
        };
        let answer = self.first.call(version, &request).await?;
        if version >= 4 {
            let found = answer
                .coordinators
                .first()
                .ok_or_else(|| AdminError::Protocol(format!("the broker named no coordinator for group {group}")))?;
            check(found.error_code, found.error_message.as_ref())?;
            return Ok(found.node_id.0);
        }
        check(answer.error_code, answer.error_message.as_ref())?;
        Ok(answer.node_id.0)
    }

    /// Calls a group's coordinator with a request that fits the negotiated version.
    async fn ask_group<R: Request>(
        &mut self,
        group: &str,
        newest: i16,
        request: impl FnOnce(i16) -> R,
    ) -> AdminResult<(i16, R::Response)> {
        let node = self.coordinator(group).await?;
        let connection = self.node(node).await?;
        let version = connection.version::<R>(newest)?;
        Ok((version, connection.call(version, &request(version)).await?))
    }
}

async fn connect_to_any(servers: &str, login: Option<&Login>) -> AdminResult<Connection> {
    let mut failures = Vec::new();
    for server in servers.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        // A listener prefix such as PLAINTEXT:// is accepted, as in Kafka's own configs.
        let address = server.split_once("://").map_or(server, |(_, address)| address);
        match Connection::open(address, login).await {
            Ok(connection) => {
                for failure in failures {
                    tracing::warn!("{failure}");
                }
                return Ok(connection);
            }
            Err(error @ AdminError::Refused { .. }) => return Err(error),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() {
        return Err(AdminError::Unreachable(
            "no bootstrap server was given; write --bootstrap-server HOST:PORT".to_owned(),
        ));
    }
    let what = if failures.len() == 1 { "the bootstrap server does not" } else { "none of the bootstrap servers" };
    Err(AdminError::Unreachable(format!(
        "{what} answer: {}; check that the broker runs and that HOST:PORT is right",
        failures.join("; ")
    )))
}

fn cluster_view(answer: &MetadataResponse) -> ClusterView {
    let nodes = answer.brokers.iter().map(|broker| Node {
        id: broker.node_id.0,
        host: broker.host.to_string(),
        port: broker.port,
        rack: broker.rack.as_ref().map(|rack| rack.to_string()),
    });
    ClusterView {
        id: answer.cluster_id.as_ref().map(|id| id.to_string()).unwrap_or_default(),
        controller: answer.controller_id.0,
        nodes: nodes.collect(),
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn ids(nodes: &[BrokerId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}
