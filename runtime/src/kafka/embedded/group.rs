//! A consumer group member in the broker's process, as the worker sees it. The membership itself runs as a task of its
//! own (`member.rs`), so that heartbeats and rebalances go on whatever the worker does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fancy_regex::Regex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use towline_broker::{CommitRequest, Handle};
use towline_connectors::api::{Error, Result, TopicPartition};

use super::member::Member;
use super::{commit, failed};
use crate::kafka::{ClientSettings, GroupConsumer, GroupEvent, IncomingBatch, Subscription};

/// What the member's client settings say, by Kafka's names.
#[derive(Debug, Clone)]
pub(super) struct GroupSettings {
    pub(super) client_id: String,
    pub(super) session_timeout: i32,
    pub(super) rebalance_timeout: i32,
    pub(super) heartbeat: Duration,
    pub(super) reset: Reset,
    /// `isolation.level`: whether open and aborted transactions stay unseen.
    pub(super) committed_only: bool,
}

/// `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    Earliest,
    Latest,
    None,
}

/// Which topics are wanted, patterns compiled.
#[derive(Debug)]
pub(super) enum Wanted {
    Topics(Vec<String>),
    Pattern(Box<Regex>),
}

/// Who the member is in its group now.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) group: String,
    pub(super) instance: Option<String>,
    /// Member id and generation; none while it is not in the group.
    membership: Mutex<Option<(String, i32)>>,
    /// Counts revocations: records that were read before one are somebody else's now.
    epoch: AtomicU64,
    /// Counts assignments: whoever has not seen the last one commits nothing.
    assignment: AtomicU64,
}

impl Identity {
    pub(super) fn membership(&self) -> Option<(String, i32)> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_membership(&self, membership: Option<(String, i32)>) {
        *self.membership.lock().unwrap_or_else(PoisonError::into_inner) = membership;
    }

    pub(super) fn next_assignment(&self) {
        self.assignment.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}

/// Records, and the assignment under which they were read.
pub(super) type Read = (u64, Vec<IncomingBatch>);

pub(super) struct EmbeddedGroupConsumer {
    handle: Handle,
    identity: Arc<Identity>,
    /// Rebalances and errors: never held up by records.
    control: mpsc::Receiver<GroupEvent>,
    records: mpsc::Receiver<Read>,
    /// The assignment that the worker has seen last.
    seen: u64,
    paused: watch::Sender<bool>,
    stop: CancellationToken,
    member: JoinHandle<()>,
}

impl EmbeddedGroupConsumer {
    pub(super) fn join(handle: Handle, subscription: &Subscription, settings: &ClientSettings) -> Result<Self> {
        let text = |key: &str| settings.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
        let wrong =
            |key: &str, value: &str| Error::config(format!("cannot open a consumer: {key}={value} is not understood"));
        let number = |key: &str, default: i32| match text(key) {
            None => Ok(default),
            Some(value) => value.parse::<i32>().ok().filter(|n| *n > 0).ok_or_else(|| wrong(key, value)),
        };
        let reset = match text("auto.offset.reset") {
            None | Some("earliest" | "smallest" | "beginning") => Reset::Earliest,
            Some("latest" | "largest" | "end") => Reset::Latest,
            Some("none" | "error") => Reset::None,
            Some(other) => return Err(wrong("auto.offset.reset", other)),
        };
        let own = GroupSettings {
            client_id: text("client.id").unwrap_or("towline").to_owned(),
            session_timeout: number("session.timeout.ms", 10_000)?,
            rebalance_timeout: number("max.poll.interval.ms", 300_000)?,
            heartbeat: Duration::from_millis(number("heartbeat.interval.ms", 3_000)?.unsigned_abs().into()),
            reset,
            committed_only: text("isolation.level") != Some("read_uncommitted"),
        };
        let wanted = match subscription {
            Subscription::Topics(topics) => Wanted::Topics(topics.clone()),
            Subscription::Pattern(pattern) => {
                let whole = Regex::new(&format!("^(?:{pattern})$"));
                Wanted::Pattern(Box::new(whole.map_err(|e| {
                    Error::config(format!("topics.regex={pattern} is not a regular expression")).caused_by(e)
                })?))
            }
        };
        let group = text("group.id").ok_or_else(|| Error::config("cannot open a consumer: group.id is missing"))?;
        let identity = Arc::new(Identity {
            group: group.to_owned(),
            instance: text("group.instance.id").map(str::to_owned),
            membership: Mutex::new(None),
            epoch: AtomicU64::new(0),
            assignment: AtomicU64::new(0),
        });
        let (record_sender, records) = mpsc::channel(1);
        let (control_sender, control) = mpsc::channel(4);
        let (paused, pausing) = watch::channel(false);
        let stop = CancellationToken::new();
        let member = Member::new(handle.clone(), identity.clone(), own, wanted);
        let member = tokio::spawn(member.run(control_sender, record_sender, pausing, stop.clone()));
        Ok(Self { handle, identity, control, records, seen: 0, paused, stop, member })
    }
}

impl EmbeddedGroupConsumer {
    fn note(&mut self, event: Option<GroupEvent>) -> Option<GroupEvent> {
        if matches!(event, Some(GroupEvent::Assigned(..))) {
            self.seen = self.identity.assignment.load(Ordering::Acquire);
        }
        event
    }
}

#[async_trait]
impl GroupConsumer for EmbeddedGroupConsumer {
    async fn next(&mut self) -> Option<GroupEvent> {
        loop {
            // Both are cancel-safe. The control channel closes first.
            tokio::select! {
                biased;
                event = self.control.recv() => return self.note(event),
                Some((epoch, records)) = self.records.recv() => {
                    if epoch == self.identity.epoch() {
                        return Some(GroupEvent::Records(records));
                    }
                }
            }
        }
    }

    async fn next_control(&mut self) -> Option<GroupEvent> {
        let event = self.control.recv().await;
        self.note(event)
    }

    async fn commit(&self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let Some((member_id, generation)) = self.identity.membership() else {
            return Err(Error::retriable("offsets cannot be committed: the consumer is not in its group at present"));
        };
        if self.seen != self.identity.assignment.load(Ordering::Acquire) {
            return Err(Error::retriable("offsets cannot be committed: the group has rebalanced meanwhile"));
        }
        let request = CommitRequest {
            group_id: self.identity.group.clone(),
            member_id,
            instance_id: self.identity.instance.clone(),
            generation,
            ..CommitRequest::default()
        };
        let committed = commit(&self.handle, request, offsets).await;
        committed.map_err(|error| failed("cannot commit offsets to the group's coordinator", error))
    }

    fn set_paused(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    async fn close(mut self: Box<Self>) {
        self.stop.cancel();
        self.control.close();
        self.records.close();
        let _ = (&mut self.member).await;
    }
}

impl Drop for EmbeddedGroupConsumer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
