//! One TCP connection to a Kafka broker: frames, the version handshake, and SASL/PLAIN if asked.
//!
//! It must never trust a length that the peer sends further than [`MAX_FRAME`].

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{AdminError, AdminResult, check};

const MAX_FRAME: usize = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const UNSUPPORTED_VERSION: i16 = 35;

/// Name and password for SASL/PLAIN.
#[derive(Clone)]
pub(in crate::cli) struct Login {
    username: String,
    password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Login {
    /// The login that client settings ask for, none for a plain listener.
    pub(super) fn from_settings(settings: &BTreeMap<String, String>) -> AdminResult<Option<Self>> {
        let setting = |key: &str| settings.get(key).map_or("", |text| text.trim());
        match setting("security.protocol").to_ascii_uppercase().as_str() {
            "" | "PLAINTEXT" => return Ok(None),
            "SASL_PLAINTEXT" => {}
            other => {
                return Err(AdminError::Protocol(format!(
                    "security.protocol={other} is not supported by this tool yet; use a PLAINTEXT or SASL_PLAINTEXT \
                     listener"
                )));
            }
        }
        let mechanism = setting("sasl.mechanism");
        if !mechanism.eq_ignore_ascii_case("PLAIN") {
            return Err(AdminError::Protocol(format!(
                "sasl.mechanism={mechanism} is not supported by this tool yet; use PLAIN"
            )));
        }
        let jaas = setting("sasl.jaas.config");
        let of = |key: &str, own: &str| match setting(own) {
            "" => jaas_option(jaas, key).unwrap_or_default(),
            text => text.to_owned(),
        };
        Ok(Some(Self { username: of("username", "sasl.username"), password: of("password", "sasl.password") }))
    }
}

/// The value of an option in a JAAS line such as `...PlainLoginModule required username="a" password="b";`.
pub(in crate::cli) fn jaas_option(jaas: &str, key: &str) -> Option<String> {
    let mut rest = jaas;
    loop {
        let at = rest.find(key)?;
        let before = rest[..at].chars().next_back();
        let after = rest[at + key.len()..].trim_start();
        rest = &rest[at + key.len()..];
        if let Some(value) = after.strip_prefix('=')
            && before.is_none_or(char::is_whitespace)
        {
            let value = value.trim_start();
            return Some(match value.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next().unwrap_or_default().to_owned(),
                None => value.split([' ', ';']).next().unwrap_or_default().to_owned(),
            });
        }
    }
}

/// A connection that has learnt its peer's versions.
#[derive(Debug)]
pub(in crate::cli) struct Connection {
    stream: TcpStream,
    peer: String,
    versions: BTreeMap<i16, (i16, i16)>,
    correlation: i32,
}

impl Connection {
    /// Connects, learns the versions and logs in.
    pub(in crate::cli) async fn open(address: &str, login: Option<&Login>) -> AdminResult<Self> {
        let unreachable = |why: String| AdminError::Unreachable(format!("{address}: {why}"));
        if !address.contains(':') {
            return Err(unreachable("the port is missing, write HOST:PORT".to_owned()));
        }
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        };
        // Without it requests are slower, not wrong.
        let _ = stream.set_nodelay(true);
        let mut connection = Self { stream, peer: address.to_owned(), versions: BTreeMap::new(), correlation: 0 };
        connection.learn_versions().await?;
        if let Some(login) = login {
            connection.log_in(login).await?;
        }
        Ok(connection)
    }

    /// The address that was connected to.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// The newest version of a request that both sides know, at most `newest`.
    pub(super) fn version<R: Request>(&self, newest: i16) -> AdminResult<i16> {
        let ours = R::VERSIONS;
        let reply = <R::Response as Message>::VERSIONS;
        let Some(&(lowest, highest)) = self.versions.get(&R::KEY) else {
            return Err(AdminError::Protocol(format!("broker {} does not serve {}", self.peer, api_name(R::KEY))));
        };
        let version = highest.min(ours.max).min(reply.max).min(newest);
        if version < lowest || version < ours.min {
            return Err(AdminError::Protocol(format!(
                "broker {} serves {} in versions {lowest} to {highest}, this tool in {} to {}",
                self.peer,
                api_name(R::KEY),
                ours.min,
                ours.max.min(newest)
            )));
        }
        Ok(version)
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call<R: Request>(&mut self, version: i16, request: &R) -> AdminResult<R::Response> {
        let mut answer = self.exchange(version, request).await?;
        self.decode(&mut answer, version)
    }

    fn decode<M: Decodable>(&self, bytes: &mut Bytes, version: i16) -> AdminResult<M> {
        M::decode(bytes, version).map_err(|error| self.garbled(&error.to_string()))
    }

    fn garbled(&self, why: &str) -> AdminError {
        AdminError::Protocol(format!("{} does not answer in Kafka's protocol: {why}", self.peer))
    }

    /// The body of the answer, its header taken off.
    async fn exchange<R: Request>(&mut self, version: i16, request: &R) -> AdminResult<Bytes> {
        self.correlation = self.correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("towline-cli")));
        let mut frame = BytesMut::from(&[0_u8; 4][..]);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| AdminError::Protocol(format!("cannot write a {} request: {error}", api_name(R::KEY))))?;
        let length = u32::try_from(frame.len() - 4)
            .map_err(|_| AdminError::Protocol(format!("a {} request is too large", api_name(R::KEY))))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        let mut answer = match timeout(ANSWER_TIMEOUT, self.send_and_receive(&frame)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                return Err(AdminError::Unreachable(format!("{}: the connection broke: {error}", self.peer)));
            }
            Err(_) => {
                return Err(AdminError::Unreachable(format!(
                    "{}: no answer to {} within {} s",
                    self.peer,
                    api_name(R::KEY),
                    ANSWER_TIMEOUT.as_secs()
                )));
            }
        };
        let header: ResponseHeader =
            self.decode(&mut answer, <R::Response as HeaderVersion>::header_version(version))?;
        if header.correlation_id != self.correlation {
            return Err(self.garbled("an answer to another request"));
        }
        Ok(answer)
    }

    async fn send_and_receive(&mut self, frame: &[u8]) -> std::io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        let length = usize::try_from(self.stream.read_u32().await?).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(std::io::Error::other("the peer does not speak Kafka's protocol"));
        }
        // The buffer grows with what arrives, not with what was announced.
        let mut answer = Vec::new();
        let read = (&mut self.stream).take(length as u64).read_to_end(&mut answer).await?;
        if read < length {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Bytes::from(answer))
    }

    async fn learn_versions(&mut self) -> AdminResult<()> {
        let mut answer = self.exchange(3, &api_versions_request(3)).await?;
        // An old broker answers version 3 with error 35 in the form of version 0.
        let old = answer.get(..2).is_some_and(|code| code == UNSUPPORTED_VERSION.to_be_bytes());
        let known: ApiVersionsResponse =
            if old { self.call(0, &api_versions_request(0)).await? } else { self.decode(&mut answer, 3)? };
        check(known.error_code, None)?;
        self.versions = known.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(())
    }

    async fn log_in(&mut self, login: &Login) -> AdminResult<()> {
        let version = self.version::<SaslHandshakeRequest>(1)?;
        let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"));
        let answer = self.call(version, &handshake).await?;
        check(answer.error_code, None)?;
        let version = self.version::<SaslAuthenticateRequest>(2)?;
        let token = format!("\0{}\0{}", login.username, login.password);
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(token.into_bytes()));
        let answer = self.call(version, &request).await?;
        check(answer.error_code, answer.error_message.as_ref())
    }
}

pub(super) fn api_versions_request(version: i16) -> ApiVersionsRequest {
    if version < 3 {
        return ApiVersionsRequest::default();
    }
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("towline"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
}

/// The name of a request, its number if it has none here.
pub(in crate::cli) fn api_name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|_| format!("UNKNOWN({key})"), |api| format!("{api:?}"))
}

/// The newest version of a request that this client could write, `None` if it does not know the request.
pub(in crate::cli) fn newest_known(key: i16) -> Option<i16> {
    ApiKey::try_from(key).ok().map(|api| api.valid_versions().max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_jaas_line() {
        let jaas = r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="al ice" password=b;"#;
        assert_eq!(jaas_option(jaas, "username").as_deref(), Some("al ice"));
        assert_eq!(jaas_option(jaas, "password").as_deref(), Some("b"));
        assert_eq!(jaas_option(jaas, "missing"), None);
    }

    #[tokio::test]
    async fn a_peer_that_is_not_kafka_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        };
        let (error, ()) = tokio::join!(Connection::open(&address, None), peer);
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with(&address) && text.contains("Kafka's protocol"), "{text}");
    }
}
