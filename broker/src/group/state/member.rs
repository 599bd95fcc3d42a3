//! A member of a group: what it said when it joined, what it waits for, when it counts as gone.

use bytes::Bytes;

use super::Token;
use crate::group::requests::JoinRequest;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: i64,
    pub(crate) rebalance_timeout: i64,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    pub(super) expires: i64,
    pub(super) joining: Option<Token>,
    pub(super) syncing: Option<Token>,
    pub(super) owes_sync: bool,
    pub(super) is_new: bool,
}

impl Member {
    /// A member as it was written to the log.
    pub(crate) fn restored(id: String, session_timeout: i64, rebalance_timeout: i64, now: i64) -> Self {
        Member {
            id,
            instance_id: None,
            client_id: String::new(),
            client_host: String::new(),
            session_timeout,
            rebalance_timeout,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            expires: now + session_timeout,
            joining: None,
            syncing: None,
            owes_sync: false,
            is_new: false,
        }
    }

    /// Metadata for an assignor.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, m)| m.clone()).unwrap_or_default()
    }

    /// Whether a request of the member waits here, which counts as a sign of life.
    pub(super) fn is_parked(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    /// Whether the request comes from the same static member.
    pub(super) fn is_same_instance(&self, r: &JoinRequest) -> bool {
        self.instance_id.is_some() && self.instance_id == r.instance_id
    }

    /// Takes over what a JoinGroup request says; the request then waits as `token`.
    pub(super) fn update(&mut self, r: JoinRequest, token: Token, now: i64) {
        self.instance_id = r.instance_id;
        self.client_id = r.client_id;
        self.client_host = r.client_host;
        self.session_timeout = i64::from(r.session_timeout_ms);
        self.rebalance_timeout = i64::from(r.rebalance_timeout_ms);
        self.protocols =
            r.protocols.into_iter().map(|(name, metadata)| (name, Bytes::copy_from_slice(&metadata))).collect();
        self.joining = Some(token);
        self.expires = now + self.session_timeout;
    }

    /// Topics that a consumer's metadata for an assignor names; none if it is not a consumer's.
    pub(super) fn subscription(&self, protocol: &str) -> Option<Vec<String>> {
        subscription_topics(&self.metadata(protocol))
    }
}

fn subscription_topics(metadata: &[u8]) -> Option<Vec<String>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let (name, tail) = tail.split_at_checked(usize::try_from(i16::from_be_bytes(*len)).ok()?)?;
        topics.push(String::from_utf8(name.to_vec()).ok()?);
        rest = tail;
    }
    Some(topics)
}
