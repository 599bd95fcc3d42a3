//! Keys and values of `__transaction_state`, in Kafka's binary format (version 0 of both).

use bytes::{Buf, BufMut};

use super::state::{Partitions, Transaction, TransactionState};

/// The bytes of a transactional id's key.
pub(super) fn encode_key(id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + id.len());
    out.put_i16(0);
    put_str(&mut out, id);
    out
}

/// Reads a key; none for kinds that are not known here.
pub(super) fn decode_key(mut b: &[u8]) -> Option<String> {
    if b.try_get_i16().ok()? != 0 {
        return None;
    }
    take_str(&mut b)
}

/// The bytes of a transactional id's state.
pub(super) fn encode(transaction: &Transaction) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(0);
    out.put_i64(transaction.producer_id);
    out.put_i16(transaction.epoch);
    out.put_i32(transaction.timeout_ms);
    out.put_i8(transaction.state.code());
    if transaction.state == TransactionState::Empty {
        out.put_i32(-1);
    } else {
        out.put_i32(transaction.partitions.len() as i32);
    }
    for (topic, partitions) in &transaction.partitions {
        put_str(&mut out, topic);
        out.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|partition| out.put_i32(*partition));
    }
    out.put_i64(transaction.updated);
    out.put_i64(transaction.started);
    out
}

/// Reads a state; none for versions that are not known here.
pub(super) fn decode(mut b: &[u8]) -> Option<Transaction> {
    if b.try_get_i16().ok()? != 0 {
        return None;
    }
    let producer = (b.try_get_i64().ok()?, b.try_get_i16().ok()?);
    let timeout_ms = b.try_get_i32().ok()?;
    let state = TransactionState::from_code(b.try_get_i8().ok()?)?;
    let mut partitions = Partitions::new();
    for _ in 0..b.try_get_i32().ok()? {
        let topic = take_str(&mut b)?;
        let list = partitions.entry(topic).or_default();
        for _ in 0..b.try_get_i32().ok()? {
            list.insert(b.try_get_i32().ok()?);
        }
    }
    let updated = b.try_get_i64().ok()?;
    Some(Transaction::restored(producer, timeout_ms, state, partitions, (b.try_get_i64().ok()?, updated)))
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn take_str(b: &mut &[u8]) -> Option<String> {
    let len = usize::try_from(b.try_get_i16().ok()?).ok()?;
    let (text, tail) = b.split_at_checked(len)?;
    *b = tail;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_states_read_back() {
        assert_eq!(encode_key("id"), b"\0\0\0\x02id");
        assert_eq!(decode_key(&encode_key("id")).as_deref(), Some("id"));
        assert_eq!((decode_key(b"\0\x01\0\x02id"), decode_key(b"\0\0\0\x03id")), (None, None));
        let partitions = Partitions::from([("t".to_owned(), [0, 5].into()), ("u".to_owned(), [1].into())]);
        let state = TransactionState::PrepareAbort;
        let transaction = Transaction::restored((7, 3), 60_000, state, partitions, (40, 50));
        let bytes = encode(&transaction);
        assert_eq!(decode(&bytes), Some(transaction));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None);
        }
        let empty = Transaction::new(7, 1);
        assert_eq!(encode(&empty)[17..21], [0xff; 4]);
        assert_eq!(decode(&encode(&empty)), Some(empty));
    }
}
