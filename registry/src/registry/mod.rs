//! The registry itself: a handle over state and log, and the rules that turn requests into
//! records.
//!
//! The rules (`register`, `delete`, `settings`, ...) are pure functions of the state that return
//! either an answer or the records to write. The handle runs them: one writer at a time, no lock
//! held while the log is written, answers read from the state after read-back. It must never
//! change the state but by applying records.

mod compatibility;
mod delete;
mod lookup;
mod prepare;
mod register;
mod scopes;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use bytes::Bytes;

use crate::compat::Level;
use crate::error::Error;
use crate::log::SchemaLog;
use crate::record::{Key, StoredSchema};
use crate::settings::Mode;
use crate::state::State;
use crate::subject::Subject;

pub use lookup::Version;
pub use prepare::SchemaRequest;
pub use register::{RegisterFlags, Registered};
use writer::{Registration, Writer};

/// Which generation of the original the answers look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Confluent Platform 7.4 to 7.9.
    Cp7,
    /// Confluent Platform 8: a superset, with GUIDs and timestamps.
    #[default]
    Cp8,
}

/// Settings of a registry.
#[derive(Debug, Clone)]
pub struct Options {
    /// `compat.profile`.
    pub profile: Profile,
    /// `schema.compatibility.level`: the level where none is set.
    pub default_level: Level,
    /// `mode.mutability`: may modes be changed?
    pub mode_mutability: bool,
    /// `schema.reject.empty.subject`.
    pub reject_empty_subject: bool,
    /// `schema.validate.new.schemas`: check names and defaults of new schemas.
    pub validate_new_schemas: bool,
    /// `response.http.headers.config`: headers added to every answer.
    pub response_headers: Vec<(String, String)>,
    /// `size.limit.filter.*`: the largest request body in bytes.
    pub max_body: usize,
    /// The id of the Kafka cluster, for `/v1/metadata/id`.
    pub cluster_id: String,
    /// `schema.registry.group.id`, for `/v1/metadata/id`.
    pub group_id: String,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            profile: Profile::default(),
            default_level: Level::default(),
            mode_mutability: true,
            reject_empty_subject: false,
            validate_new_schemas: true,
            response_headers: Vec::new(),
            max_body: 16 * 1024 * 1024,
            cluster_id: String::new(),
            group_id: "schema-registry".to_owned(),
        }
    }
}

/// A handle to the registry; cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

/// A handle that does not keep the registry alive, for logs that hand records back.
#[derive(Debug, Clone)]
pub struct WeakRegistry {
    inner: Weak<Inner>,
}

impl WeakRegistry {
    /// The registry, unless it is gone.
    pub fn upgrade(&self) -> Option<Registry> {
        self.inner.upgrade().map(|inner| Registry { inner })
    }
}

struct Inner {
    log: Arc<dyn SchemaLog>,
    options: Options,
    state: RwLock<State>,
    writer: Arc<tokio::sync::Mutex<Writer>>,
    /// Registrations that wait for the writer, who takes all of them.
    registrations: Mutex<Vec<Registration>>,
    ready: AtomicBool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("options", &self.options).field("ready", &self.ready).finish_non_exhaustive()
    }
}

/// Records to write, in order; no value means a tombstone.
type Records = Vec<(Key, Option<Bytes>)>;
/// The same as bytes.
type Encoded = Vec<(Bytes, Option<Bytes>)>;

impl Registry {
    /// A registry with empty state over a log that is still to be replayed.
    pub fn new(log: Arc<dyn SchemaLog>, options: Options) -> Registry {
        let inner = Inner {
            log,
            options,
            state: RwLock::default(),
            writer: Arc::default(),
            registrations: Mutex::default(),
            ready: AtomicBool::new(false),
        };
        Registry { inner: Arc::new(inner) }
    }

    /// A handle that does not keep the registry alive.
    pub fn downgrade(&self) -> WeakRegistry {
        WeakRegistry { inner: Arc::downgrade(&self.inner) }
    }

    /// Takes in a record read from the log, in order of offsets; called for every record, also
    /// for those that this registry appended. Records that make no sense are skipped with a
    /// warning, as the original does.
    pub fn apply(&self, offset: i64, timestamp_ms: i64, key: &[u8], value: Option<&[u8]>) {
        let mut state = self.inner.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(err) = state.apply(timestamp_ms, key, value) {
            tracing::warn!(offset, error = %err, "skipped a record of the schemas topic");
        }
    }

    /// Says that the log has been replayed up to its end; until then requests are refused.
    pub fn set_ready(&self) {
        self.inner.ready.store(true, Ordering::Release);
    }

    /// True once the log has been replayed.
    pub fn ready(&self) -> bool {
        self.inner.ready.load(Ordering::Acquire)
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Appends a NOOP record, by which a starting node learns the end of the log.
    pub async fn append_noop(&self) -> Result<i64, Error> {
        self.inner.log.append(Key::Noop.encode(), None).await.map_err(Error::store("Initialize"))
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records as the log takes them, with tombstones for other forms of their keys.
fn encoded(state: &State, records: Records) -> Encoded {
    let mut all = Vec::with_capacity(records.len());
    for (key, value) in records {
        all.extend(state.other_forms(&key).into_iter().map(|form| (form, None)));
        all.push((key.encode(), value));
    }
    all
}

impl Options {
    fn names_avro(&self) -> bool {
        self.profile == Profile::Cp8
    }
}

fn not_permitted(subject: &Subject, what: &str) -> Error {
    let name = if subject.is_global() { String::new() } else { format!("Subject {} in ", subject.name()) };
    Error::NotPermitted(format!("{name}context {} {what}", subject.context()))
}

fn check_writable(state: &State, subject: &Subject) -> Result<Mode, Error> {
    let mode = state.effective_mode(subject);
    if mode.is_read_only() { Err(not_permitted(subject, "is in read-only mode")) } else { Ok(mode) }
}

fn soft_deleted(schema: &StoredSchema) -> StoredSchema {
    StoredSchema { deleted: true, ..schema.clone() }
}
