//! The Fetch answer as a list of buffers, so that record batches are never copied between disk read and socket.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use uuid::Uuid;

/// What one partition answers.
#[derive(Debug, Clone)]
pub(crate) struct PartitionAnswer {
    pub(crate) partition: i32,
    pub(crate) error: Option<ResponseError>,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start: i64,
    /// Epoch and end offset, when the client's last epoch ended earlier here.
    pub(crate) diverging: Option<(i32, i64)>,
    /// None for read_uncommitted.
    pub(crate) aborted: Option<Vec<(i64, i64)>>,
    pub(crate) records: Bytes,
}

/// The whole answer.
#[derive(Debug, Default)]
pub(crate) struct FetchAnswer {
    pub(crate) error: Option<ResponseError>,
    pub(crate) session_id: i32,
    pub(crate) topics: Vec<(Bytes, Uuid, Vec<PartitionAnswer>)>,
}

fn code(error: Option<ResponseError>) -> i16 {
    error.map_or(0, |e| e.code())
}

fn put_uvarint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_len(out: &mut BytesMut, flexible: bool, len: usize) {
    if flexible { put_uvarint(out, len as u32 + 1) } else { out.put_i32(len as i32) }
}

fn put_tags(out: &mut BytesMut, flexible: bool) {
    if flexible {
        out.put_u8(0);
    }
}

impl FetchAnswer {
    /// Encodes the body for versions 4 to 17, as chunks to be written one after the other.
    pub(crate) fn encode(self, version: i16, out: &mut Vec<Bytes>, mut head: BytesMut) {
        let flexible = version >= 12;
        head.put_i32(0);
        if version >= 7 {
            head.put_i16(code(self.error));
            head.put_i32(self.session_id);
        }
        put_len(&mut head, flexible, self.topics.len());
        for (name, id, partitions) in self.topics {
            if version >= 13 {
                head.put_slice(id.as_bytes());
            } else if flexible {
                put_len(&mut head, true, name.len());
                head.put_slice(&name);
            } else {
                head.put_i16(name.len() as i16);
                head.put_slice(&name);
            }
            put_len(&mut head, flexible, partitions.len());
            for partition in partitions {
                partition.encode(version, out, &mut head);
            }
            put_tags(&mut head, flexible);
        }
        put_tags(&mut head, flexible);
        out.push(head.freeze());
    }
}

impl PartitionAnswer {
    fn encode(self, version: i16, out: &mut Vec<Bytes>, head: &mut BytesMut) {
        let flexible = version >= 12;
        head.put_i32(self.partition);
        head.put_i16(code(self.error));
        head.put_i64(self.high_watermark);
        head.put_i64(self.last_stable_offset);
        if version >= 5 {
            head.put_i64(self.log_start);
        }
        match &self.aborted {
            None if flexible => put_uvarint(head, 0),
            None => head.put_i32(-1),
            Some(list) => {
                put_len(head, flexible, list.len());
                for (producer, first) in list {
                    head.put_i64(*producer);
                    head.put_i64(*first);
                    put_tags(head, flexible);
                }
            }
        }
        if version >= 11 {
            head.put_i32(-1);
        }
        put_len(head, flexible, self.records.len());
        if self.records.len() > 512 {
            out.push(head.split().freeze());
            out.push(self.records);
        } else {
            head.put_slice(&self.records);
        }
        if flexible {
            match self.diverging {
                None => head.put_u8(0),
                Some((epoch, end)) => {
                    // One tagged field, number 0, of 13 bytes: epoch, end offset, no tags.
                    head.put_slice(&[1, 0, 13]);
                    head.put_i32(epoch);
                    head.put_i64(end);
                    head.put_u8(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::protocol::Decodable;

    use super::*;

    #[test]
    fn every_version_reads_back_with_the_published_decoder() {
        for version in 4..=17 {
            for records in [Bytes::new(), Bytes::from(vec![7u8; 600])] {
                let partition = PartitionAnswer {
                    partition: 3,
                    error: None,
                    high_watermark: 10,
                    last_stable_offset: 9,
                    log_start: 1,
                    diverging: (version >= 12).then_some((2, 5)),
                    aborted: Some(vec![(1, 2)]),
                    records: records.clone(),
                };
                let answer = FetchAnswer {
                    error: None,
                    session_id: 0,
                    topics: vec![(Bytes::from_static(b"topic"), Uuid::from_u128(7), vec![partition])],
                };
                let mut chunks = Vec::new();
                answer.encode(version, &mut chunks, BytesMut::new());
                let mut body = Bytes::from(chunks.concat());
                let read = FetchResponse::decode(&mut body, version).unwrap();
                assert!(body.is_empty(), "version {version}");
                let read = &read.responses[0].partitions[0];
                assert_eq!((read.partition_index, read.high_watermark, read.last_stable_offset), (3, 10, 9));
                assert_eq!(read.records.as_deref().unwrap_or(&[]), records.as_ref());
                assert_eq!(read.aborted_transactions.as_ref().unwrap().len(), 1);
                if version >= 12 {
                    assert_eq!((read.diverging_epoch.epoch, read.diverging_epoch.end_offset), (2, 5));
                }
            }
        }
    }
}
