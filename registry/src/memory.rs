//! A log in memory: the registry for tests, here and in the crates that use this one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::log::{LogError, SchemaLog};
use crate::registry::{Options, Registry, WeakRegistry};

/// Records in memory; each append is applied to the attached registry at once.
#[derive(Debug, Default)]
pub struct MemoryLog {
    records: Mutex<Vec<(Bytes, Option<Bytes>)>>,
    registry: Mutex<Option<WeakRegistry>>,
    fails: AtomicBool,
}

impl MemoryLog {
    /// A log with records, to be replayed by [`MemoryLog::attach`].
    pub fn with_records(records: Vec<(Bytes, Option<Bytes>)>) -> MemoryLog {
        MemoryLog { records: Mutex::new(records), ..MemoryLog::default() }
    }

    /// Everything appended so far.
    pub fn records(&self) -> Vec<(Bytes, Option<Bytes>)> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on appends fail, or succeed again.
    pub fn set_failing(&self, fails: bool) {
        self.fails.store(fails, Ordering::Release);
    }

    /// A registry over this log: replays it and marks the registry ready.
    pub fn attach(self: &Arc<Self>, options: Options) -> Registry {
        let log: Arc<dyn SchemaLog> = Arc::<Self>::clone(self);
        let registry = Registry::new(log, options);
        for (offset, (key, value)) in (0i64..).zip(self.records()) {
            registry.apply(offset, offset, &key, value.as_deref());
        }
        registry.set_ready();
        *self.registry.lock().unwrap_or_else(PoisonError::into_inner) = Some(registry.downgrade());
        registry
    }
}

#[async_trait]
impl SchemaLog for MemoryLog {
    async fn append(&self, key: Bytes, value: Option<Bytes>) -> Result<i64, LogError> {
        if self.fails.load(Ordering::Acquire) {
            return Err(LogError::Failed("the log was told to fail".into()));
        }
        let offset = {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            records.push((key.clone(), value.clone()));
            i64::try_from(records.len()).unwrap_or(i64::MAX) - 1
        };
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(registry) = registry.and_then(|weak| weak.upgrade()) {
            registry.apply(offset, offset, &key, value.as_deref());
        }
        Ok(offset)
    }
}

/// A ready registry over an empty log in memory.
pub fn registry(options: Options) -> Registry {
    open(options).0
}

/// A ready registry over an empty log in memory, and the log.
pub fn open(options: Options) -> (Registry, Arc<MemoryLog>) {
    let log = Arc::new(MemoryLog::default());
    (log.attach(options), log)
}
