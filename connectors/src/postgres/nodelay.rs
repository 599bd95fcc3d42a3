//! Nagle's algorithm, switched off on the connections that the driver opened. It leaves it on and hands its socket to
//! nobody; then the end of a COPY waits for the acknowledgement of its data, which a server that has nothing to say
//! delays by 40 ms (docs/adr/0005).

use std::os::fd::{AsRawFd, RawFd};

use socket2_by_number::SockRef;

/// An open descriptor of this process, by its number.
struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// Makes connections to a server's port send at once. Where descriptors cannot be listed nothing happens: it costs time
/// only.
pub(super) fn send_at_once(port: u16) {
    let Ok(descriptors) = std::fs::read_dir("/dev/fd") else { return };
    let numbers = descriptors.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    for descriptor in numbers.map(Descriptor) {
        let socket = SockRef::from(&descriptor);
        // Whatever is no connected socket refuses to name its peer.
        let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
        if peer.is_some_and(|peer| peer.port() == port)
            && let Err(error) = socket.set_nodelay(true)
        {
            tracing::debug!(%error, "the connection may wait for acknowledgements");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_to_the_port_send_at_once_and_no_others() {
        let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let connect = |listener: &TcpListener| TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mine, foreign) = (connect(&one), connect(&other));
        send_at_once(one.local_addr().unwrap().port());
        assert!(mine.nodelay().unwrap() && !foreign.nodelay().unwrap());
    }
}
