//! What may be committed: only the leading run of acknowledged chunks. A chunk is what one step of the source loop
//! sent; its checkpoints are the source offsets that hold once it and all chunks before it are in the log.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesOrdered;
use towline_connectors::api::{Position, Result};

use crate::kafka::Ack;

/// Source offsets by source partition.
pub(super) type Checkpoints = Vec<(Arc<Position>, Position)>;

/// A chunk whose records were answered, in the order of sending.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) bytes: usize,
    pub(super) checkpoints: Checkpoints,
    pub(super) outcome: Result<()>,
}

type Waiting = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// Chunks in flight, oldest first.
#[derive(Default)]
pub(super) struct Acks {
    waiting: FuturesOrdered<Waiting>,
    bytes: usize,
}

impl Acks {
    /// Adds a chunk.
    pub(super) fn push(&mut self, acks: Vec<Ack>, bytes: usize, checkpoints: Checkpoints) {
        self.bytes += bytes;
        self.waiting.push_back(Box::pin(async move {
            let outcome = join_all(acks).await.into_iter().find_map(Result::err).map_or(Ok(()), Err);
            Answered { bytes, checkpoints, outcome }
        }));
    }

    /// Bytes in flight.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The oldest chunk, once it is answered. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Answered> {
        let answered = self.waiting.next().await?;
        self.bytes -= answered.bytes;
        Some(answered)
    }
}

/// Puts newer offsets over older ones of the same source partition.
pub(super) fn merge(into: &mut Checkpoints, newer: Checkpoints) {
    for (partition, offset) in newer {
        match into.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &partition) || **known == *partition) {
            Some((_, known)) => *known = offset,
            None => into.push((partition, offset)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;
    use towline_connectors::data::Value;

    fn at(n: i64) -> Checkpoints {
        vec![(Arc::new(Position::of([("t", "x".into())])), Position::of([("n", Value::Int64(n))]))]
    }

    #[tokio::test]
    async fn answers_in_the_order_of_sending_only() {
        let mut acks = Acks::default();
        let (first, ack1) = oneshot::channel::<()>();
        acks.push(vec![Box::pin(async move { ack1.await.map(|()| vec![]).map_err(|_| unreachable!()) })], 5, at(1));
        acks.push(vec![Box::pin(async { Ok(vec![(0, 9)]) })], 7, at(2));
        let early = futures_util::future::poll_immediate(Box::pin(acks.next())).await;
        assert!(early.is_none(), "the second chunk must wait for the first");
        first.send(()).unwrap();
        let mut committable = Checkpoints::new();
        merge(&mut committable, acks.next().await.unwrap().checkpoints);
        merge(&mut committable, acks.next().await.unwrap().checkpoints);
        assert_eq!(committable, at(2));
        assert!(acks.is_empty() && acks.bytes() == 0);
    }
}
