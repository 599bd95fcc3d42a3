//! The settings of the broker itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::Error;

/// What `acks=all` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// The answer leaves when the records are on disk; concurrent appends share a sync.
    #[default]
    GroupCommit,
    /// The answer leaves when the records are in the page cache, as with Apache Kafka on one node.
    PageCache,
}

/// A named address, as in `listeners` and `advertised.listeners`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Listener name, `PLAINTEXT` unless configured.
    pub name: String,
    /// Host name or address; empty for all addresses.
    pub host: String,
    /// Port; 0 lets the system choose.
    pub port: u16,
}

/// Settings of a broker. Start from `BrokerConfig::new` or `BrokerConfig::from_properties` and change fields.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Directory of all data; created if absent.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listeners: Vec<Endpoint>,
    /// What to tell clients, by listener name. Without an entry a listener answers its own host, or, if that is
    /// empty, the address at which the client reached it.
    pub advertised_listeners: Vec<Endpoint>,
    /// Id of this one node.
    pub node_id: i32,
    /// Cluster id to insist on; else the data directory's, or a new one.
    pub cluster_id: Option<String>,
    /// Rack of this node.
    pub rack: Option<String>,
    /// Whether asking for an unknown topic creates it.
    pub auto_create_topics: bool,
    /// Whether topics may be deleted.
    pub delete_topics: bool,
    /// Partitions of a topic that is created without a number.
    pub num_partitions: i32,
    /// Replication factor of a topic that is created without one.
    pub default_replication_factor: i16,
    /// Lower a replication factor above 1 to 1 instead of refusing it.
    pub clamp_replication_factor: bool,
    /// What `acks=all` means.
    pub sync_policy: SyncPolicy,
    /// Largest request.
    pub max_request_bytes: usize,
    /// Largest Fetch answer.
    pub fetch_max_bytes: usize,
    /// Connections idle for longer are closed.
    pub connections_max_idle_ms: u64,
    /// Most connections at a time.
    pub max_connections: usize,
    /// How often retention runs.
    pub retention_check_interval_ms: u64,
    /// How often compaction looks for work.
    pub cleaner_backoff_ms: u64,
    /// Whether compaction runs.
    pub cleaner_enable: bool,
    /// Partitions of `__consumer_offsets`.
    pub offsets_partitions: i32,
    /// How long offsets of a group without members are kept.
    pub offsets_retention_ms: i64,
    /// How often expired offsets are looked for.
    pub offsets_retention_check_interval_ms: u64,
    /// Longest metadata of an offset commit.
    pub offset_metadata_max_bytes: usize,
    /// Shortest session timeout that a member may ask for.
    pub group_min_session_timeout_ms: i32,
    /// Longest session timeout that a member may ask for.
    pub group_max_session_timeout_ms: i32,
    /// How long the first member of a group waits for others. Kafka's default is 3000; here it is 0.
    pub group_initial_rebalance_delay_ms: i32,
    /// Most members of a group.
    pub group_max_size: usize,
    /// How long a silent idempotent producer is remembered.
    pub producer_id_expiration_ms: i64,
    /// Longest transaction that a producer may ask for.
    pub transaction_max_timeout_ms: i32,
    /// Partitions of `__transaction_state`.
    pub transactions_partitions: i32,
    /// How often transactions that have lasted too long are looked for.
    pub transaction_abort_interval_ms: u64,
    /// How long an unused transactional id is remembered.
    pub transactional_id_expiration_ms: i64,
    /// How often unused transactional ids are looked for.
    pub transactional_id_check_interval_ms: u64,
    /// Broker settings as given, for topic defaults and DescribeConfigs.
    pub properties: BTreeMap<String, String>,
}

impl BrokerConfig {
    /// Defaults, with a data directory, listening on `127.0.0.1:9092`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        BrokerConfig {
            data_dir: data_dir.into(),
            listeners: vec![Endpoint { name: "PLAINTEXT".to_owned(), host: "127.0.0.1".to_owned(), port: 9092 }],
            advertised_listeners: Vec::new(),
            node_id: 1,
            cluster_id: None,
            rack: None,
            auto_create_topics: true,
            delete_topics: true,
            num_partitions: 1,
            default_replication_factor: 1,
            clamp_replication_factor: true,
            sync_policy: SyncPolicy::GroupCommit,
            max_request_bytes: 104_857_600,
            fetch_max_bytes: 57_671_680,
            connections_max_idle_ms: 600_000,
            max_connections: 10_000,
            retention_check_interval_ms: 300_000,
            cleaner_backoff_ms: 15_000,
            cleaner_enable: true,
            offsets_partitions: 50,
            offsets_retention_ms: 7 * 86_400_000,
            offsets_retention_check_interval_ms: 600_000,
            offset_metadata_max_bytes: 4096,
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_initial_rebalance_delay_ms: 0,
            group_max_size: usize::MAX,
            producer_id_expiration_ms: 86_400_000,
            transaction_max_timeout_ms: 900_000,
            transactions_partitions: 50,
            transaction_abort_interval_ms: 10_000,
            transactional_id_expiration_ms: 7 * 86_400_000,
            transactional_id_check_interval_ms: 3_600_000,
            properties: BTreeMap::new(),
        }
    }

    /// Reads the keys of a `server.properties`; answers the settings and warnings for the log.
    ///
    /// # Errors
    /// A value that cannot be used.
    pub fn from_properties(properties: &BTreeMap<String, String>) -> Result<(Self, Vec<String>), Error> {
        super::properties::read(properties)
    }
}
