//! ApiVersions (18): what is served. An unknown version is answered in version 0 (KIP-511).

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::{APIS, Api, Unreadable, framed, head};
use crate::wire::guard::GuardedBuf;

pub(super) fn answer(frame: &mut Bytes, served: &Api) -> Result<Vec<Bytes>, Unreadable> {
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let known = (served.min..=served.max).contains(&version);
    let correlation_id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
    let header = RequestHeader::default().with_correlation_id(correlation_id);
    let mut response = ApiVersionsResponse::default();
    let mut listed: Vec<&Api> = APIS.iter().collect();
    if !known {
        response.error_code = ResponseError::UnsupportedVersion.code();
        listed = vec![served];
    } else if version >= 3 {
        let request = RequestHeader::decode(frame, 2)
            .and_then(|_| ApiVersionsRequest::decode(&mut GuardedBuf::new(frame.clone(), true), version))
            .map_err(|e| e.to_string())?;
        if !is_name(&request.client_software_name) || !is_name(&request.client_software_version) {
            response.error_code = ResponseError::InvalidRequest.code();
            listed.clear();
        }
    }
    listed.sort_by_key(|api| api.key);
    let entry =
        |api: &&Api| ApiVersion::default().with_api_key(api.key).with_min_version(api.min).with_max_version(api.max);
    response.api_keys = listed.iter().map(entry).collect();
    let mut out: BytesMut = head(&header, ApiKey::ApiVersions);
    response.encode(&mut out, if known { version } else { 0 }).map_err(|e| e.to_string())?;
    Ok(framed(vec![out.freeze()]))
}

fn is_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(name.chars().next())
        && edge(name.chars().last())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
}
