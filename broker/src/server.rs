//! Connections: accepting, cutting frames, answering in the order of the requests.
//!
//! As in Kafka one request of a connection is in work at a time, except that the next is read meanwhile and may
//! start while a Produce still waits for the disk. Whatever cannot be read closes the connection.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, Answer, Context};
use crate::handle::Handle;
use crate::listeners::Advertised;

/// Answers that may wait behind each other on one connection.
const PIPELINE: usize = 32;
const READ_STEP: usize = 64 << 10;
/// Room that a client gets on its word.
const USUAL_REQUEST: usize = 4 << 20;
/// Buffers that leave in one write.
const GATHERED: usize = 64;

/// What all connections share.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) handle: Handle,
    pub(crate) advertised: Arc<Advertised>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Server {
    /// Accepts on one listener until stopped.
    pub(crate) async fn accept(self, listener: TcpListener, index: usize) {
        loop {
            // Both futures are cancel-safe.
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, index),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                    // Out of file descriptors, most likely: without a pause this would spin.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, index: usize) {
        if self.connections.load(Ordering::Relaxed) >= self.handle.0.config.max_connections {
            tracing::warn!(%peer, "connection refused: max.connections is reached");
            return;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        let server = self.clone();
        self.tracker.spawn(async move {
            if let Err(error) = server.serve(stream, peer, index).await {
                tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection closed");
            }
            server.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, index: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let context = Context {
            handle: self.handle.clone(),
            advertised: self.advertised.clone(),
            listener: index,
            local,
            client_host: format!("/{}", peer.ip()),
        };
        let (read, write) = stream.into_split();
        let (answers, queue) = mpsc::channel(PIPELINE);
        let closed = CancellationToken::new();
        let writer = self.tracker.spawn(answer_all(write, queue, closed.clone()));
        // The reader is dropped half way only when the connection ends.
        let result = tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            () = closed.cancelled() => Ok(()),
            result = self.read_all(read, &context, answers) => result,
        };
        let _ = tokio::time::timeout(Duration::from_secs(10), writer).await;
        result
    }

    async fn read_all(
        &self,
        mut read: OwnedReadHalf,
        context: &Context,
        answers: mpsc::Sender<Answer>,
    ) -> io::Result<()> {
        let idle = Duration::from_millis(self.handle.0.config.connections_max_idle_ms);
        let mut buffer = BytesMut::new();
        let mut ahead = None;
        loop {
            let frame = match ahead.take() {
                Some(frame) => frame,
                None => self.next_frame(&mut read, &mut buffer, idle).await,
            };
            let Some(frame) = frame? else { return Ok(()) };
            let mut work = pin!(api::dispatch(context, frame));
            let answer = loop {
                // The request goes on being worked on; a frame that is half read stays in the buffer.
                tokio::select! {
                    biased;
                    answer = &mut work => break answer,
                    next = self.next_frame(&mut read, &mut buffer, idle), if ahead.is_none() => ahead = Some(next),
                }
            };
            let answer = match answer {
                Ok(Some(answer)) => answer,
                Ok(None) => continue,
                Err(reason) => return Err(io::Error::new(io::ErrorKind::InvalidData, reason)),
            };
            if answers.send(answer).await.is_err() {
                return Ok(());
            }
        }
    }

    /// The next request without its length; none when the client has closed.
    /// Cancel-safe.
    async fn next_frame(
        &self,
        read: &mut OwnedReadHalf,
        buffer: &mut BytesMut,
        idle: Duration,
    ) -> io::Result<Option<Bytes>> {
        loop {
            let mut missing = READ_STEP;
            if let Some(head) = buffer.first_chunk::<4>() {
                let len = i32::from_be_bytes(*head);
                let len = usize::try_from(len).ok().filter(|len| *len <= self.handle.0.config.max_request_bytes);
                let Some(len) = len else {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "request is negative or too large"));
                };
                if buffer.len() >= 4 + len {
                    buffer.advance(4);
                    return Ok(Some(buffer.split_to(len).freeze()));
                }
                missing = 4 + len - buffer.len();
            }
            // Room for a usual request at once; above that it grows with what has arrived, not with what was announced.
            buffer.reserve(missing.clamp(4 << 10, buffer.len().max(USUAL_REQUEST)));
            let Ok(got) = tokio::time::timeout(idle, read.read_buf(buffer)).await else {
                return Err(io::ErrorKind::TimedOut.into());
            };
            if got? == 0 {
                let whole = buffer.is_empty();
                return if whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

/// Writes answers in their order; those that are ready at the same time leave together.
async fn answer_all(mut write: OwnedWriteHalf, mut queue: mpsc::Receiver<Answer>, closed: CancellationToken) {
    let mut next = None;
    while let Some(answer) = match next.take() {
        Some(answer) => Some(answer),
        None => queue.recv().await,
    } {
        let Some(mut chunks) = answer.ready().await else { break };
        let mut last = false;
        while chunks.len() < GATHERED
            && let Ok(answer) = queue.try_recv()
        {
            match answer.now().await {
                Ok(Some(more)) => chunks.extend(more),
                Ok(None) => {
                    last = true;
                    break;
                }
                Err(later) => {
                    next = Some(later);
                    break;
                }
            }
        }
        if write_chunks(&mut write, chunks).await.is_err() || last {
            break;
        }
    }
    closed.cancel();
}

async fn write_chunks(write: &mut OwnedWriteHalf, mut chunks: Vec<Bytes>) -> io::Result<()> {
    let mut first = 0;
    while first < chunks.len() {
        if chunks[first].is_empty() {
            first += 1;
            continue;
        }
        let slices: Vec<IoSlice<'_>> = chunks[first..].iter().take(GATHERED).map(|chunk| IoSlice::new(chunk)).collect();
        let mut written = write.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let part = written.min(chunks[first].len());
            chunks[first].advance(part);
            written -= part;
            if chunks[first].is_empty() {
                first += 1;
            }
        }
    }
    Ok(())
}
