//! How a source's records and its offsets reach the log: at least once, the offsets following what is acknowledged; or
//! exactly once (KIP-618), both in one transaction.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use towline_connectors::api::{Error, ErrorKind, Position, Result};

use super::TaskContext;
use super::acks::{Acks, Answered, Checkpoints, merge};
use super::tolerance::{Failed, Stage, Tolerance};
use crate::kafka::{Outgoing, Producer, TransactionalProducer};

/// The source is not polled while more than this is unacknowledged.
const IN_FLIGHT_BYTES: usize = 32 << 20;
/// Polls that come while a transaction is being committed share the next one up to about this many bytes.
const SHARED_BYTES: usize = 4 << 20;
/// Offsets are committed at most this often while records flow, if not in transactions.
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// The way of one task.
pub(super) struct Delivery {
    way: Way,
    /// Whether records go to the worker's own cluster.
    pub(super) here: bool,
    /// Source offsets that hold once they are committed.
    committable: Checkpoints,
    committed_at: Instant,
}

enum Way {
    AtLeastOnce {
        producer: Box<dyn Producer>,
        acks: Acks,
    },
    ExactlyOnce {
        writer: TransactionWriter,
        /// `transaction.boundary`: how long a transaction collects polls; zero is one transaction a poll.
        interval: Duration,
        /// Whether a transaction is under way, with or without offsets.
        open: bool,
        /// What it holds.
        bytes: usize,
    },
}

/// Writes transactions on a task of its own, so that the next one is encoded while one is made durable.
struct TransactionWriter {
    jobs: mpsc::Sender<Job>,
    answers: mpsc::Receiver<Result<Checkpoints>>,
    /// Commits that are not answered.
    unanswered: usize,
    /// What was committed and not told yet.
    committed: Checkpoints,
    _task: AbortOnDropHandle<()>,
}

enum Job {
    Append(Outgoing),
    /// The offsets to write last, and what they say.
    Commit(Outgoing, Checkpoints),
}

/// Transactions that may wait for their commit.
const UNANSWERED: usize = 2;
/// Batches and commits that may wait for the writer.
const JOBS: usize = 2;

impl TransactionWriter {
    fn start(producer: Box<dyn TransactionalProducer>, tolerance: Tolerance) -> Self {
        let (jobs, received) = mpsc::channel(JOBS);
        // More answers than may be under way: writing never waits for someone to listen.
        let (answered, answers) = mpsc::channel(UNANSWERED + 2);
        let task = AbortOnDropHandle::new(tokio::spawn(write(producer, tolerance, received, answered)));
        Self { jobs, answers, unanswered: 0, committed: Checkpoints::new(), _task: task }
    }

    async fn hand_over(&mut self, job: Job) -> Result<()> {
        if self.jobs.send(job).await.is_ok() {
            return Ok(());
        }
        // The writer ends with the error that it answers.
        loop {
            self.take_answer().await?;
        }
    }

    async fn take_answer(&mut self) -> Result<()> {
        let answer = self.answers.recv().await;
        let committed = answer.unwrap_or_else(|| Err(Error::fatal("the writer of transactions has ended")))?;
        self.unanswered = self.unanswered.saturating_sub(1);
        merge(&mut self.committed, committed);
        Ok(())
    }

    /// Whether a commit is under way.
    fn commits(&self) -> bool {
        self.unanswered > self.answers.len()
    }

    async fn commit(&mut self, offsets: Outgoing, checkpoints: Checkpoints) -> Result<()> {
        while self.unanswered >= UNANSWERED {
            self.take_answer().await?;
        }
        self.hand_over(Job::Commit(offsets, checkpoints)).await?;
        self.unanswered += 1;
        Ok(())
    }
}

/// Ends at the first failure: the transaction is then worth nothing, and dropping the producer gives it up.
async fn write(
    mut producer: Box<dyn TransactionalProducer>,
    tolerance: Tolerance,
    mut jobs: mpsc::Receiver<Job>,
    answers: mpsc::Sender<Result<Checkpoints>>,
) {
    while let Some(job) = jobs.recv().await {
        let done = match job {
            Job::Append(batch) => match producer.send(batch).await {
                Ok(()) => continue,
                // The other records of the batch are in the transaction, which goes on if the policy says so.
                Err(error) => match judged(&tolerance, error) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            },
            Job::Commit(offsets, checkpoints) => match producer.send(offsets).await {
                Ok(()) => producer.commit().await.map(|()| checkpoints).map_err(unsent),
                Err(error) => Err(unsent(error)),
            },
        };
        let failed = done.is_err();
        if answers.send(done).await.is_err() || failed {
            return;
        }
    }
}

impl Delivery {
    /// Opens the task's producer. Exactly once, whoever had the task before can write no more from then on, and what it
    /// committed is known.
    ///
    /// # Errors
    /// Retriable while the cluster does not answer.
    pub(super) async fn open(context: &TaskContext) -> Result<Self> {
        let mut settings = context.client("producer", &[]);
        let elsewhere = settings.contains_key("bootstrap.servers");
        if elsewhere && context.worker.exactly_once_sources() {
            tracing::warn!(
                connector = %context.connector, task = context.task,
                "records go to another cluster (bootstrap.servers of the producer): they are delivered at least once"
            );
        }
        let way = if context.worker.exactly_once_sources() && !elsewhere {
            let id = format!("{}-{}-{}", context.worker.text("group.id"), context.connector, context.task);
            let interval = boundary(context)?;
            let allowed = context.kafka.longest_transaction_ms();
            let own = settings.entry("transaction.timeout.ms".to_owned());
            let timeout = own.or_insert_with(|| timeout(interval, allowed).to_string()).trim().parse().ok();
            let interval = timeout.map_or(interval, |millis| interval.min(Duration::from_millis(millis) / 2));
            let producer = context.kafka.transactional_producer(&id, &settings).await?;
            context.stores.offsets.catch_up(context.kafka.as_ref()).await?;
            let tolerance = Tolerance::new(&context.connector, context.task, &context.connector_props);
            Way::ExactlyOnce { writer: TransactionWriter::start(producer, tolerance), interval, open: false, bytes: 0 }
        } else {
            Way::AtLeastOnce { producer: context.kafka.producer(&settings)?, acks: Acks::default() }
        };
        Ok(Self { way, here: !elsewhere, committable: Checkpoints::new(), committed_at: Instant::now() })
    }

    /// Hands batches over, and the source offsets that hold once they and all before them are in the log.
    ///
    /// # Errors
    /// What ends the task.
    pub(super) async fn send(&mut self, batches: Vec<Outgoing>, bytes: usize, checkpoints: Checkpoints) -> Result<()> {
        let batches = batches.into_iter().filter(|batch| !batch.records.is_empty());
        match &mut self.way {
            Way::AtLeastOnce { producer, acks } => {
                let mut sent = Vec::new();
                for batch in batches {
                    sent.push(producer.send(batch).await?);
                }
                // A chunk whose records were all dropped still moves the offsets, in its turn.
                acks.push(sent, bytes, checkpoints);
            }
            Way::ExactlyOnce { writer, open, bytes: held, .. } => {
                *held += bytes;
                for batch in batches {
                    *open = true;
                    writer.hand_over(Job::Append(batch)).await?;
                }
                merge(&mut self.committable, checkpoints);
            }
        }
        Ok(())
    }

    /// Whether more may be sent now.
    pub(super) fn has_room(&self) -> bool {
        match &self.way {
            Way::AtLeastOnce { acks, .. } => acks.bytes() < IN_FLIGHT_BYTES,
            Way::ExactlyOnce { .. } => true,
        }
    }

    /// Takes in the next answer to what was sent; for ever pending if none is to come. Cancel-safe.
    ///
    /// # Errors
    /// Records were refused, and the policy does not skip them.
    pub(super) async fn settle(&mut self, tolerance: &Tolerance) -> Result<()> {
        match &mut self.way {
            Way::AtLeastOnce { acks, .. } if !acks.is_empty() => match acks.next().await {
                Some(answered) => take(acks, &mut self.committable, tolerance, answered),
                None => Ok(()),
            },
            Way::ExactlyOnce { writer, .. } if writer.unanswered > 0 => writer.take_answer().await,
            _ => std::future::pending().await,
        }
    }

    /// When to commit, if there is anything. A transaction that would only wait for the one before it goes on collecting
    /// until that is committed: under load they get larger, and nothing gets later.
    pub(super) fn due(&self) -> Option<Instant> {
        let every = match &self.way {
            Way::AtLeastOnce { .. } => COMMIT_EVERY,
            Way::ExactlyOnce { writer, bytes, .. } if writer.commits() && *bytes < SHARED_BYTES => return None,
            Way::ExactlyOnce { interval, .. } => *interval,
        };
        self.holds_any().then(|| self.committed_at + every)
    }

    /// Whether there is anything to commit: records may come without offsets (a bulk read, standard input).
    fn holds_any(&self) -> bool {
        let open = matches!(&self.way, Way::ExactlyOnce { open: true, .. });
        open || !self.committable.is_empty()
    }

    /// Whether to commit now.
    pub(super) fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }

    /// Commits offsets, exactly once with the records before them; what was committed since the last call.
    ///
    /// # Errors
    /// What ends the task: exactly once, any failure, as a part of a transaction is worth nothing.
    pub(super) async fn commit(&mut self, context: &TaskContext) -> Result<Checkpoints> {
        self.committed_at = Instant::now();
        if self.holds_any() {
            let offsets: Vec<(Position, Option<Position>)> =
                self.committable.iter().map(|(p, o)| ((**p).clone(), Some(o.clone()))).collect();
            match &mut self.way {
                Way::AtLeastOnce { .. } => match context.stores.offsets.put(&context.connector, &offsets).await {
                    Ok(()) => return Ok(std::mem::take(&mut self.committable)),
                    Err(error) if error.kind() == ErrorKind::Retriable => {
                        tracing::warn!(connector = %context.connector, task = context.task, %error, "offsets not committed yet");
                    }
                    Err(error) => return Err(error),
                },
                Way::ExactlyOnce { writer, open, bytes, .. } => {
                    (*open, *bytes) = (false, 0);
                    let batch = context.stores.offsets.batch(&context.connector, &offsets);
                    writer.commit(batch, std::mem::take(&mut self.committable)).await?;
                }
            }
        }
        Ok(match &mut self.way {
            Way::AtLeastOnce { .. } => Checkpoints::new(),
            Way::ExactlyOnce { writer, .. } => std::mem::take(&mut writer.committed),
        })
    }

    /// Waits for outstanding answers, within bounds, and commits; after a failure what is not committed is given up.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(super) async fn finish(&mut self, context: &TaskContext, tolerance: &Tolerance, well: bool) -> Result<()> {
        let exactly_once = matches!(self.way, Way::ExactlyOnce { .. });
        if exactly_once && !well {
            return Ok(());
        }
        if exactly_once {
            self.commit(context).await?;
        }
        let deadline = Instant::now() + context.worker.millis("offset.flush.timeout.ms");
        while self.is_unanswered() {
            match tokio::time::timeout_at(deadline, self.settle(tolerance)).await {
                Ok(settled) => settled?,
                Err(_) => {
                    tracing::warn!(
                        connector = %context.connector, task = context.task,
                        "stopped before all records were acknowledged; they are read again by the next run"
                    );
                    break;
                }
            }
        }
        self.commit(context).await.map(drop)
    }

    fn is_unanswered(&self) -> bool {
        match &self.way {
            Way::AtLeastOnce { acks, .. } => !acks.is_empty(),
            Way::ExactlyOnce { writer, .. } => writer.unanswered > 0,
        }
    }
}

fn unsent(error: Error) -> Error {
    Error::fatal("Unrecoverable exception from producer send callback").caused_by(error)
}

fn take(acks: &mut Acks, into: &mut Checkpoints, tolerance: &Tolerance, answered: Answered) -> Result<()> {
    if let Err(error) = answered.outcome {
        let verdict = judged(tolerance, error);
        if verdict.is_err() {
            // Chunks behind the failed one may be in the log, but their offsets would skip its records for ever.
            *acks = Acks::default();
            return verdict;
        }
    }
    merge(into, answered.checkpoints);
    Ok(())
}

/// What follows from a failed send: the policy decides on a record that can never be sent.
fn judged(tolerance: &Tolerance, error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Data => {
            tolerance.judge(Failed { stage: Stage::KafkaProduce, class: "KafkaProducer".to_owned(), error }, None)
        }
        _ => Err(unsent(error)),
    }
}

/// Milliseconds after which an open transaction is given up: well beyond its own length and an outage of the registry,
/// within what the broker allows, or else brokers by default.
fn timeout(interval: Duration, allowed: Option<i32>) -> u128 {
    const MOST: u128 = 900_000;
    let allowed = allowed.and_then(|millis| u128::try_from(millis).ok()).unwrap_or(MOST);
    interval.as_millis().saturating_mul(2).clamp(300_000, MOST).min(allowed)
}

/// How long a transaction collects polls.
fn boundary(context: &TaskContext) -> Result<Duration> {
    let text = |key: &str| context.connector_props.get(key).map(|text| text.trim()).unwrap_or_default();
    match text("transaction.boundary").to_ascii_lowercase().as_str() {
        "" | "poll" => Ok(Duration::ZERO),
        "interval" => Ok(match text("transaction.boundary.interval.ms").parse() {
            Ok(millis) => Duration::from_millis(millis),
            Err(_) => context.worker.millis("offset.flush.interval.ms"),
        }),
        other => Err(Error::config(format!(
            "transaction.boundary={other} is not supported by this connector: use poll or interval"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_lasts_no_longer_than_the_broker_allows() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert_eq!(timeout(Duration::ZERO, None), 300_000);
        assert_eq!(timeout(minutes(60), None), 900_000);
        assert_eq!(timeout(minutes(5), Some(3_600_000)), 600_000);
        assert_eq!(timeout(minutes(5), Some(60_000)), 60_000);
    }
}
