//! Listening sockets, and the address that each tells its clients.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::{BrokerConfig, Endpoint};
use crate::error::Error;

const BACKLOG: i32 = 1024;

/// What each listener advertises.
#[derive(Debug, Default)]
pub(crate) struct Advertised(Vec<(String, u16)>);

impl Advertised {
    /// Host and port for clients of a listener that reached us at `local`.
    pub(crate) fn address(&self, listener: usize, local: SocketAddr) -> (String, u16) {
        match self.0.get(listener) {
            Some((host, port)) if host.is_empty() => (local.ip().to_canonical().to_string(), *port),
            Some((host, port)) => (host.clone(), *port),
            None => (local.ip().to_canonical().to_string(), local.port()),
        }
    }
}

/// Binds all listeners; answers them with their addresses and what they advertise.
pub(crate) async fn bind(config: &BrokerConfig) -> Result<(Vec<(TcpListener, SocketAddr)>, Advertised), Error> {
    let mut bound = Vec::new();
    let mut advertised = Advertised::default();
    for endpoint in &config.listeners {
        let listener = bind_one(endpoint).await?;
        let address = listener.local_addr().map_err(|e| failed(endpoint, e))?;
        let told = config.advertised_listeners.iter().find(|a| a.name == endpoint.name);
        let host = told.map_or(&endpoint.host, |a| &a.host).clone();
        let port = told.map(|a| a.port).filter(|port| *port != 0).unwrap_or(address.port());
        advertised.0.push((host, port));
        bound.push((listener, address));
    }
    Ok((bound, advertised))
}

async fn bind_one(endpoint: &Endpoint) -> Result<TcpListener, Error> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    let addresses: Vec<SocketAddr> = if endpoint.host.is_empty() {
        vec![SocketAddr::from(([0u16; 8], endpoint.port)), SocketAddr::from(([0u8; 4], endpoint.port))]
    } else {
        let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
        found.map_err(|e| failed(endpoint, e))?.collect()
    };
    for address in addresses {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                let (name, host, port) = (endpoint.name.clone(), endpoint.host.clone(), endpoint.port);
                return Err(Error::PortTaken { name, host, port });
            }
            Err(e) => last = e,
        }
    }
    Err(failed(endpoint, last))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // One socket for both families.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn failed(endpoint: &Endpoint, source: io::Error) -> Error {
    Error::Listen { host: endpoint.host.clone(), port: endpoint.port, source }
}
