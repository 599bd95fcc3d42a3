//! Writing: one writer at a time, who decides against what the log holds.
//!
//! An append runs on a task of its own that holds the writer, so that it is read back even if whoever asked for it has
//! gone away. When it is not known what of an append is in the log, a NOOP is written and read back before anything
//! else is decided.

use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::sync::{OwnedMutexGuard, oneshot};

use super::register::{Decision, decide};
use super::{Encoded, Options, Records, RegisterFlags, Registry, SchemaRequest, encoded};
use crate::error::Error;
use crate::log::LogError;
use crate::record::{Key, StoredSchema};
use crate::state::State;
use crate::subject::Subject;

/// What goes from writer to writer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Something may be in the log that has not been read back.
    unsure: bool,
}

/// A registration that waits to be written.
pub(super) struct Registration {
    subject: Subject,
    request: SchemaRequest,
    flags: RegisterFlags,
    reply: oneshot::Sender<Result<Arc<StoredSchema>, Error>>,
}

impl Registry {
    /// Runs a rule and writes what it decides, with no other writer in between.
    pub(super) async fn write<T>(
        &self,
        operation: &'static str,
        decide: impl FnOnce(&State, &Options) -> Result<(T, Records), Error>,
    ) -> Result<T, Error> {
        let mut writer = self.inner.writer.clone().lock_owned().await;
        self.settle(&mut writer).await.map_err(Error::store(operation))?;
        let (answer, records) = {
            let state = self.state();
            let (answer, records) = decide(&state, &self.inner.options)?;
            (answer, encoded(&state, records))
        };
        let registry = self.clone();
        let written = tokio::spawn(async move { registry.append_all(&mut writer, records).await }).await;
        written.unwrap_or_else(|broken| Err(LogError::Failed(broken.into()))).map_err(Error::store(operation))?;
        Ok(answer)
    }

    /// Waits for its turn to write; whoever has it takes along all that wait, so that one round of the disk does for
    /// all of them.
    pub(super) async fn register_new(
        &self,
        subject: &Subject,
        request: &SchemaRequest,
        flags: RegisterFlags,
    ) -> Result<Arc<StoredSchema>, Error> {
        let (reply, mut answer) = oneshot::channel();
        self.waiting().push(Registration { subject: subject.clone(), request: request.clone(), flags, reply });
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            writer = self.inner.writer.clone().lock_owned() => {
                let registry = self.clone();
                tokio::spawn(async move { registry.register_waiting(writer).await });
                answer.await
            }
        };
        answered.unwrap_or_else(|broken| Err(failed(LogError::Failed(broken.into()))))
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, Vec<Registration>> {
        self.inner.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn register_waiting(&self, mut writer: OwnedMutexGuard<Writer>) {
        let all = std::mem::take(&mut *self.waiting());
        if let Err((error, refused)) = self.register_all(&mut writer, all).await {
            // One of several is too large: each tries alone.
            let alone = matches!(error, LogError::TooLarge) && refused.len() > 1;
            if !alone {
                return fail(error, refused);
            }
            for one in refused {
                if let Err((error, refused)) = self.register_all(&mut writer, vec![one]).await {
                    fail(error, refused);
                }
            }
        }
    }

    /// Decides on each as if those before it were in the log, writes all at once, and answers with what was read back;
    /// what the log refused, and why.
    async fn register_all(
        &self,
        writer: &mut Writer,
        all: Vec<Registration>,
    ) -> Result<(), (LogError, Vec<Registration>)> {
        if let Err(error) = self.settle(writer).await {
            return Err((error, all));
        }
        let (decided, records) = self.decide_all(all);
        if let Err(error) = self.append_all(writer, records).await {
            return Err((error, decided.into_iter().map(|(one, _)| one).collect()));
        }
        for (one, schema) in decided {
            let read = self.state().version(&one.subject, schema.version).cloned();
            let same = |read: &Arc<StoredSchema>| {
                read.id == schema.id && read.schema == schema.schema && read.references == schema.references
            };
            let missing = || failed(LogError::Failed("what was written was not read back".into()));
            let _ = one.reply.send(read.filter(same).ok_or_else(missing));
        }
        Ok(())
    }

    /// What is to be written for those whose callers still wait; what is refused is answered.
    fn decide_all(&self, mut all: Vec<Registration>) -> (Vec<(Registration, Arc<StoredSchema>)>, Encoded) {
        let (mut decided, mut records) = (Vec::new(), Encoded::new());
        all.retain(|one| !one.reply.is_closed());
        let mut ahead = (all.len() > 1).then(|| self.state().clone());
        for one in all {
            let guard;
            let now = match &ahead {
                Some(ahead) => ahead,
                None => {
                    guard = self.state();
                    &guard
                }
            };
            match decide(now, self.options(), &one.subject, &one.request, one.flags) {
                Ok(Decision::Existing(schema)) => decided.push((one, schema)),
                Ok(Decision::Write(schema, own)) => {
                    let own = encoded(now, own);
                    // What can't be taken in now would not be when it is read back either.
                    let take = |ahead: &mut State| {
                        own.iter().try_for_each(|(key, value)| ahead.apply(0, key, value.as_deref()))
                    };
                    if let Some(Err(error)) = ahead.as_mut().map(take) {
                        tracing::warn!(subject = %one.subject, %error, "a schema that is registered makes no sense");
                    }
                    records.extend(own);
                    decided.push((one, Arc::new(*schema)));
                }
                Err(error) => drop(one.reply.send(Err(error))),
            }
        }
        (decided, records)
    }

    /// Makes sure that whatever was appended before has been read back.
    async fn settle(&self, writer: &mut Writer) -> Result<(), LogError> {
        if writer.unsure {
            self.inner.log.append(Key::Noop.encode(), None).await?;
            writer.unsure = false;
        }
        Ok(())
    }

    async fn append_all(&self, writer: &mut Writer, records: Encoded) -> Result<(), LogError> {
        if records.is_empty() {
            return Ok(());
        }
        let single = records.len() == 1;
        writer.unsure = true;
        let outcome = self.inner.log.append_all(records).await;
        writer.unsure = match &outcome {
            Ok(()) => false,
            Err(LogError::TooLarge) => !single,
            Err(_) => true,
        };
        outcome
    }
}

fn failed(error: LogError) -> Error {
    Error::store("Register schema")(error)
}

fn fail(error: LogError, all: Vec<Registration>) {
    let error = Arc::new(error);
    for one in all {
        let own = match &*error {
            LogError::TooLarge => LogError::TooLarge,
            LogError::TimedOut => LogError::TimedOut,
            LogError::Failed(_) => LogError::Failed(Box::new(error.clone())),
        };
        let _ = one.reply.send(Err(failed(own)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
    use std::sync::{Mutex, OnceLock};

    use async_trait::async_trait;
    use bytes::Bytes;
    use tokio::sync::Semaphore;
    use tokio::task::JoinHandle;

    use super::super::WeakRegistry;
    use super::*;
    use crate::log::SchemaLog;

    /// A log whose calls wait for permits.
    struct Gated {
        registry: OnceLock<WeakRegistry>,
        gate: Semaphore,
        calls: AtomicUsize,
        end: AtomicI64,
        /// How many records of one call are too large together.
        too_many: usize,
        /// The next call times out, though its records are in the log.
        times_out: AtomicBool,
        /// What is in the log and not read back.
        late: Mutex<Encoded>,
    }

    #[async_trait]
    impl SchemaLog for Gated {
        async fn append(&self, key: Bytes, value: Option<Bytes>) -> Result<i64, LogError> {
            self.append_all(vec![(key, value)]).await.map(|()| self.end.load(Ordering::Relaxed) - 1)
        }

        async fn append_all(&self, records: Encoded) -> Result<(), LogError> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let fits = records.len().min(self.too_many);
            self.late.lock().unwrap().extend(records.iter().take(fits).cloned());
            self.gate.acquire().await.unwrap().forget();
            if records.len() > fits {
                return Err(LogError::TooLarge);
            }
            if self.times_out.swap(false, Ordering::Relaxed) {
                return Err(LogError::TimedOut);
            }
            let registry = self.registry.get().and_then(WeakRegistry::upgrade).unwrap();
            for (key, value) in std::mem::take(&mut *self.late.lock().unwrap()) {
                registry.apply(self.end.fetch_add(1, Ordering::Relaxed), 0, &key, value.as_deref());
            }
            Ok(())
        }
    }

    fn gated(too_many: usize) -> (Registry, Arc<Gated>) {
        let log = Arc::new(Gated {
            registry: OnceLock::new(),
            gate: Semaphore::new(0),
            calls: AtomicUsize::new(0),
            end: AtomicI64::new(0),
            too_many,
            times_out: AtomicBool::new(false),
            late: Mutex::default(),
        });
        let registry = Registry::new(log.clone(), Options::default());
        let _ = log.registry.set(registry.downgrade());
        registry.set_ready();
        (registry, log)
    }

    fn register(registry: &Registry, name: usize) -> JoinHandle<Result<i32, Error>> {
        let registry = registry.clone();
        tokio::spawn(async move {
            let schema = format!(r#"{{"type":"record","name":"R{name}","fields":[]}}"#);
            let request = SchemaRequest { schema, ..SchemaRequest::default() };
            let subject = Subject::parse(&format!("s{name}"));
            registry.register(&subject, &request, RegisterFlags::default()).await.map(|done| done.schema.id)
        })
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        while !holds() {
            tokio::task::yield_now().await;
        }
    }

    /// Registers nine schemas, two of them alike, while the log is busy; their ids, and the number of calls.
    async fn register_nine(too_many: usize) -> (Vec<i32>, usize) {
        let (registry, log) = gated(too_many);
        // The first has the log to itself, all others wait behind it.
        let first = register(&registry, 0);
        until(|| log.calls.load(Ordering::Relaxed) == 1).await;
        let others = [1, 2, 3, 4, 5, 6, 7, 7].map(|name| register(&registry, name));
        until(|| registry.waiting().len() == 8).await;
        log.gate.add_permits(100);
        let mut ids = Vec::new();
        for one in std::iter::once(first).chain(others) {
            ids.push(one.await.unwrap().unwrap());
        }
        (ids, log.calls.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn registrations_that_wait_are_written_together() {
        assert_eq!(register_nine(usize::MAX).await, (vec![1, 2, 3, 4, 5, 6, 7, 8, 8], 2));
    }

    #[tokio::test]
    async fn one_that_is_too_large_takes_no_other_with_it() {
        // The first one, all others, a NOOP behind what was taken of them (schema 1), and the other six.
        let (ids, calls) = register_nine(1).await;
        assert_eq!((ids, calls), (vec![1, 2, 3, 4, 5, 6, 7, 8, 8], 9));
    }

    #[tokio::test]
    async fn what_is_being_written_is_read_back_though_its_caller_has_gone() {
        let (registry, log) = gated(usize::MAX);
        let first = register(&registry, 0);
        until(|| log.calls.load(Ordering::Relaxed) == 1).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let second = register(&registry, 1);
        until(|| registry.waiting().len() == 1).await;
        log.gate.add_permits(100);
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert_eq!(register(&registry, 0).await.unwrap().unwrap(), 1);

        let config = serde_json::Map::from_iter([("compatibility".to_owned(), "NONE".into())]);
        log.gate.forget_permits(100);
        let (other, scope) = (registry.clone(), Subject::parse("s0"));
        let changed = tokio::spawn(async move { other.update_config(&scope, &config).await });
        until(|| log.calls.load(Ordering::Relaxed) == 3).await;
        changed.abort();
        let third = register(&registry, 2);
        until(|| registry.waiting().len() == 1).await;
        log.gate.add_permits(100);
        assert_eq!(third.await.unwrap().unwrap(), 3);
        assert!(registry.config(&Subject::parse("s0"), false).is_ok());
    }

    #[tokio::test]
    async fn nothing_is_decided_before_an_unknown_outcome_is_read_back() {
        let (registry, log) = gated(usize::MAX);
        log.times_out.store(true, Ordering::Relaxed);
        log.gate.add_permits(100);
        assert!(register(&registry, 0).await.unwrap().is_err());
        assert_eq!(register(&registry, 1).await.unwrap().unwrap(), 2);
        assert_eq!(register(&registry, 0).await.unwrap().unwrap(), 1);
        assert_eq!(log.calls.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_registered() {
        let (registry, log) = gated(usize::MAX);
        let first = register(&registry, 0);
        until(|| log.calls.load(Ordering::Relaxed) == 1).await;
        let (second, third) = (register(&registry, 1), register(&registry, 2));
        until(|| registry.waiting().len() == 2).await;
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        log.gate.add_permits(100);
        assert_eq!((first.await.unwrap().unwrap(), third.await.unwrap().unwrap()), (1, 2));
        assert!(registry.state().latest(&Subject::parse("s1"), true).is_none());
    }
}
