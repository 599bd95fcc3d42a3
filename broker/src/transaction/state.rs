//! One transactional id as a function of events: no I/O, time is an argument, each event answers the next value.
//!
//! Mirrors Kafka's transaction coordinator (KIP-98, with KIP-360's epoch bump; not KIP-890's version 2). Times of one
//! transactional id never go back, whatever the clock does: a marker is younger than the start of its transaction and not
//! younger than the next one's, and recovery tells transactions apart by that.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;

/// The highest epoch is used by fencing only.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    /// The producer has an id and an epoch, and no transaction yet.
    Empty,
    /// Partitions were added.
    Ongoing,
    /// It will be committed, whatever happens.
    PrepareCommit,
    /// It will be aborted, whatever happens.
    PrepareAbort,
    /// All its partitions know that it was committed.
    CompleteCommit,
    /// All its partitions know that it was aborted.
    CompleteAbort,
}

impl TransactionState {
    const ALL: [TransactionState; 6] = [
        TransactionState::Empty,
        TransactionState::Ongoing,
        TransactionState::PrepareCommit,
        TransactionState::PrepareAbort,
        TransactionState::CompleteCommit,
        TransactionState::CompleteAbort,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::PrepareCommit => "PrepareCommit",
            TransactionState::PrepareAbort => "PrepareAbort",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
        }
    }

    /// The number in the log.
    pub(crate) fn code(self) -> i8 {
        self as i8
    }

    /// The state of that number; none if it is not known here.
    pub(super) fn from_code(code: i8) -> Option<Self> {
        usize::try_from(code).ok().and_then(|code| Self::ALL.get(code)).copied()
    }

    /// The state of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the end is decided and not carried out everywhere.
    pub(super) fn is_prepared(self) -> bool {
        matches!(self, TransactionState::PrepareCommit | TransactionState::PrepareAbort)
    }
}

/// Partitions by topic.
pub(crate) type Partitions = BTreeMap<String, BTreeSet<i32>>;

/// What is known of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    /// What a producer that repeats its InitProducerId still believes to be; not kept in the log.
    pub(super) previous: Option<(i64, i16)>,
    pub(crate) timeout_ms: i32,
    pub(crate) state: TransactionState,
    pub(crate) partitions: Partitions,
    /// When the transaction began, -1 if none did.
    pub(crate) started: i64,
    /// When the state changed.
    pub(crate) updated: i64,
    /// A change is on its way, until which nothing else may happen; not kept in the log.
    pub(super) busy: bool,
}

/// What InitProducerId leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// The producer may begin.
    Ready(Transaction),
    /// The open transaction of its predecessor must be aborted first, under an epoch that nobody has.
    Fence(Transaction),
}

/// What EndTxn leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It ended that way before.
    Done,
    /// Log this, then write the markers.
    Prepare(Transaction),
}

impl Transaction {
    /// A new transactional id, whose first InitProducerId gives it epoch 0.
    pub(super) fn new(producer_id: i64, now: i64) -> Self {
        Transaction {
            producer_id,
            epoch: -1,
            previous: None,
            timeout_ms: 0,
            state: TransactionState::Empty,
            partitions: Partitions::new(),
            started: -1,
            updated: now,
            busy: false,
        }
    }

    /// A transactional id as the log has it.
    pub(super) fn restored(
        (producer_id, epoch): (i64, i16),
        timeout_ms: i32,
        state: TransactionState,
        partitions: Partitions,
        (started, updated): (i64, i64),
    ) -> Self {
        Transaction { producer_id, epoch, previous: None, timeout_ms, state, partitions, started, updated, busy: false }
    }

    /// Whether no epoch is left, so that the next InitProducerId needs a new producer id.
    pub(super) fn is_exhausted(&self) -> bool {
        self.epoch >= LAST_EPOCH
    }

    fn check(&self, producer_id: i64, epoch: i16) -> Result<(), ResponseError> {
        if producer_id != self.producer_id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if epoch != self.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        if self.busy { Err(ResponseError::ConcurrentTransactions) } else { Ok(()) }
    }

    /// InitProducerId. `known` is what the producer believes to be (KIP-360); `fresh` a producer id, if one is needed.
    pub(super) fn init(
        &self,
        timeout_ms: i32,
        known: Option<(i64, i16)>,
        fresh: Option<i64>,
        now: i64,
    ) -> Result<Init, ResponseError> {
        if self.busy || self.state.is_prepared() {
            return Err(ResponseError::ConcurrentTransactions);
        }
        let repeated = known.is_some() && known == self.previous;
        if self.epoch >= 0 && !repeated && known.is_some_and(|known| known != (self.producer_id, self.epoch)) {
            return Err(ResponseError::ProducerFenced);
        }
        if self.state == TransactionState::Ongoing {
            return Ok(Init::Fence(self.fenced(now)));
        }
        let mut next = self.clone();
        if !repeated {
            next.previous = known;
            (next.producer_id, next.epoch) = match (self.is_exhausted(), fresh) {
                (false, _) => (self.producer_id, self.epoch + 1),
                (true, Some(fresh)) => (fresh, 0),
                (true, None) => return Err(ResponseError::CoordinatorNotAvailable),
            };
        }
        next.timeout_ms = timeout_ms;
        next.state = TransactionState::Empty;
        next.partitions.clear();
        next.started = -1;
        next.updated = now.max(self.updated);
        Ok(Init::Ready(next))
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn; none if all were added before.
    pub(super) fn add(
        &self,
        producer_id: i64,
        epoch: i16,
        partitions: &Partitions,
        now: i64,
    ) -> Result<Option<Transaction>, ResponseError> {
        self.check(producer_id, epoch)?;
        if self.state.is_prepared() {
            return Err(ResponseError::ConcurrentTransactions);
        }
        let mut next = self.clone();
        if self.state != TransactionState::Ongoing {
            next.state = TransactionState::Ongoing;
            next.partitions.clear();
            next.started = now.max(self.updated);
        }
        for (topic, added) in partitions {
            next.partitions.entry(topic.clone()).or_default().extend(added);
        }
        next.updated = now.max(self.updated);
        let same = self.state == next.state && self.partitions == next.partitions;
        Ok((!same).then_some(next))
    }

    /// EndTxn.
    pub(super) fn end(&self, producer_id: i64, epoch: i16, commit: bool, now: i64) -> Result<End, ResponseError> {
        self.check(producer_id, epoch)?;
        match (self.state, commit) {
            (TransactionState::Ongoing, _) => Ok(End::Prepare(self.prepared(commit, now))),
            (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => Ok(End::Done),
            (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
                Err(ResponseError::ConcurrentTransactions)
            }
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// What aborts the transaction if it has lasted too long; its producer finds itself fenced.
    pub(super) fn timed_out(&self, now: i64) -> Option<Transaction> {
        let late = now.saturating_sub(self.started) > i64::from(self.timeout_ms);
        (self.state == TransactionState::Ongoing && !self.busy && late).then(|| self.fenced(now))
    }

    /// Whether the id was not used for so long that it may be forgotten.
    pub(super) fn is_expired(&self, now: i64, after_ms: i64) -> bool {
        let idle = self.state != TransactionState::Ongoing && !self.state.is_prepared() && !self.busy;
        idle && now.saturating_sub(self.updated) > after_ms
    }

    /// The end as recovery found it in a partition, where it was younger than anything in the coordinator's log.
    pub(super) fn decided(&self, commit: bool, epoch: i16, at: i64) -> Transaction {
        Transaction { epoch: self.epoch.max(epoch), updated: at, ..self.prepared(commit, at) }
    }

    /// All markers are written.
    pub(super) fn complete(&self, now: i64) -> Transaction {
        let commit = self.state == TransactionState::PrepareCommit;
        Transaction {
            state: if commit { TransactionState::CompleteCommit } else { TransactionState::CompleteAbort },
            partitions: Partitions::new(),
            updated: now.max(self.updated),
            busy: false,
            ..self.clone()
        }
    }

    /// Whether a batch of that producer may be written to that partition.
    pub(super) fn verify(
        &self,
        producer_id: i64,
        epoch: i16,
        topic: &str,
        partition: i32,
    ) -> Result<(), ResponseError> {
        match self.check(producer_id, epoch) {
            // Produce has its own word for it.
            Err(ResponseError::ProducerFenced) => return Err(ResponseError::InvalidProducerEpoch),
            Err(ResponseError::ConcurrentTransactions) => return Err(ResponseError::InvalidTxnState),
            other => other?,
        }
        let added = self.partitions.get(topic).is_some_and(|added| added.contains(&partition));
        if added && self.state == TransactionState::Ongoing { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
    }

    fn prepared(&self, commit: bool, now: i64) -> Transaction {
        let state = if commit { TransactionState::PrepareCommit } else { TransactionState::PrepareAbort };
        let updated = now.max(self.started + 1).max(self.updated + 1);
        Transaction { state, updated, ..self.clone() }
    }

    fn fenced(&self, now: i64) -> Transaction {
        Transaction { epoch: self.epoch.saturating_add(1), previous: None, ..self.prepared(false, now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000;

    fn partitions(topic: &str, list: &[i32]) -> Partitions {
        Partitions::from([(topic.to_owned(), list.iter().copied().collect())])
    }

    fn init(from: &Transaction, known: Option<(i64, i16)>) -> Result<Transaction, ResponseError> {
        match from.init(100, known, Some(8), NOW)? {
            Init::Ready(next) => Ok(next),
            Init::Fence(_) => panic!("there is an open transaction"),
        }
    }

    fn ready() -> Transaction {
        init(&Transaction::new(7, NOW), None).unwrap()
    }

    fn ongoing() -> Transaction {
        ready().add(7, 0, &partitions("t", &[0]), NOW).unwrap().unwrap()
    }

    fn prepared(commit: bool) -> Transaction {
        match ongoing().end(7, 0, commit, NOW).unwrap() {
            End::Prepare(next) => next,
            End::Done => panic!("it had not ended"),
        }
    }

    #[test]
    fn a_transaction_goes_from_empty_to_complete_and_on() {
        let transaction = ready();
        assert_eq!((transaction.producer_id, transaction.epoch, transaction.started), (7, 0, -1));
        let transaction = ongoing();
        assert_eq!((transaction.state, transaction.started), (TransactionState::Ongoing, NOW));
        assert_eq!(transaction.add(7, 0, &partitions("t", &[0]), NOW), Ok(None));
        let more = transaction.add(7, 0, &partitions("t", &[0, 1]), NOW).unwrap().unwrap();
        assert_eq!(more.partitions, partitions("t", &[0, 1]));
        for (commit, complete) in [(true, TransactionState::CompleteCommit), (false, TransactionState::CompleteAbort)] {
            let prepared = prepared(commit);
            assert!(prepared.state.is_prepared() && prepared.updated > prepared.started);
            let done = prepared.complete(NOW);
            assert_eq!((done.state, done.partitions.len(), done.epoch), (complete, 0, 0));
            let next = done.add(7, 0, &partitions("u", &[3]), 5).unwrap().unwrap();
            assert!(next.started >= prepared.updated, "time does not go back");
            assert_eq!(next.partitions, partitions("u", &[3]));
        }
    }

    #[test]
    fn the_wrong_producer_is_told_so() {
        let (transaction, added) = (ongoing(), partitions("t", &[1]));
        for (id, epoch, error) in [
            (6, 0, ResponseError::InvalidProducerIdMapping),
            (7, 1, ResponseError::ProducerFenced),
            (7, -1, ResponseError::ProducerFenced),
        ] {
            assert_eq!(transaction.add(id, epoch, &added, NOW), Err(error));
            assert_eq!(transaction.end(id, epoch, true, NOW), Err(error));
        }
        assert_eq!(transaction.verify(7, 0, "t", 0), Ok(()));
        assert_eq!(transaction.verify(7, 1, "t", 0), Err(ResponseError::InvalidProducerEpoch));
        assert_eq!(transaction.verify(7, 0, "t", 1), Err(ResponseError::InvalidTxnState));
        assert_eq!(transaction.verify(7, 0, "u", 0), Err(ResponseError::InvalidTxnState));
        let busy = Transaction { busy: true, ..transaction };
        assert_eq!(busy.add(7, 0, &added, NOW), Err(ResponseError::ConcurrentTransactions));
        assert_eq!(busy.end(7, 0, true, NOW), Err(ResponseError::ConcurrentTransactions));
        assert_eq!(busy.verify(7, 0, "t", 0), Err(ResponseError::InvalidTxnState));
        assert_eq!(busy.init(100, None, None, NOW), Err(ResponseError::ConcurrentTransactions));
    }

    #[test]
    fn an_end_is_repeatable_but_not_reversible() {
        let (concurrent, invalid) = (ResponseError::ConcurrentTransactions, ResponseError::InvalidTxnState);
        let refused = |from: &Transaction, commit| from.end(7, 0, commit, NOW).unwrap_err();
        for commit in [true, false] {
            let prepared = prepared(commit);
            assert_eq!((refused(&prepared, commit), refused(&prepared, !commit)), (concurrent, invalid));
            assert_eq!(prepared.add(7, 0, &partitions("t", &[0]), NOW), Err(ResponseError::ConcurrentTransactions));
            assert_eq!(prepared.verify(7, 0, "t", 0), Err(ResponseError::InvalidTxnState));
            let done = prepared.complete(NOW);
            assert_eq!((done.end(7, 0, commit, NOW), refused(&done, !commit)), (Ok(End::Done), invalid));
            assert_eq!((refused(&ready(), commit), done.verify(7, 0, "t", 0)), (invalid, Err(invalid)));
        }
    }

    #[test]
    fn a_new_producer_fences_the_old_one() {
        let Ok(Init::Fence(fence)) = ongoing().init(100, None, None, NOW) else { panic!("the old one is still open") };
        assert_eq!((fence.state, fence.epoch), (TransactionState::PrepareAbort, 1));
        let next = init(&fence.complete(NOW), None).unwrap();
        assert_eq!((next.epoch, next.state), (2, TransactionState::Empty));
        assert_eq!(next.end(7, 0, true, NOW), Err(ResponseError::ProducerFenced));
    }

    #[test]
    fn a_producer_that_says_who_it_is_goes_on_unless_another_came() {
        let first = ready();
        let second = init(&first, Some((7, 0))).unwrap();
        assert_eq!(second.epoch, 1);
        assert_eq!(init(&second, Some((7, 0))).unwrap().epoch, 1, "a repeated request gets the same answer");
        assert_eq!(init(&second, Some((7, 1))).unwrap().epoch, 2);
        let other = init(&second, None).unwrap();
        for stale in [(7, 0), (7, 1), (6, 2)] {
            assert_eq!(init(&other, Some(stale)), Err(ResponseError::ProducerFenced));
        }
    }

    #[test]
    fn the_last_epoch_leads_to_a_new_producer_id() {
        let last = Transaction { epoch: LAST_EPOCH, ..ready() };
        let next = init(&last, Some((7, LAST_EPOCH))).unwrap();
        assert_eq!((next.producer_id, next.epoch), (8, 0));
        let again = init(&next, Some((7, LAST_EPOCH))).unwrap();
        assert_eq!((again.producer_id, again.epoch), (8, 0));
        let Ok(Init::Fence(fence)) = (Transaction { epoch: LAST_EPOCH, ..ongoing() }).init(100, None, None, NOW) else {
            panic!("it is open")
        };
        assert_eq!(fence.epoch, i16::MAX);
        assert_eq!(fence.complete(NOW).init(100, None, None, NOW), Err(ResponseError::CoordinatorNotAvailable));
        assert_eq!(init(&fence.complete(NOW), None).unwrap().producer_id, 8);
    }

    #[test]
    fn time_ends_transactions_and_unused_ids() {
        let transaction = ongoing();
        assert_eq!(transaction.timed_out(NOW + 100), None);
        let fence = transaction.timed_out(NOW + 101).unwrap();
        assert_eq!((fence.state, fence.epoch), (TransactionState::PrepareAbort, 1));
        assert_eq!((ready().timed_out(i64::MAX), fence.timed_out(i64::MAX)), (None, None));
        let done = fence.complete(NOW + 101);
        assert!(done.is_expired(NOW + 1_000, 500) && !done.is_expired(NOW + 500, 500));
        assert!(!transaction.is_expired(i64::MAX, 0) && !fence.is_expired(i64::MAX, 0));
    }
}
