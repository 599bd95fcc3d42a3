//! Connections: accepting, cutting frames, answering in the order of the requests.
//!
//! As in Kafka one request of a connection is in work at a time, except that the next may start while a Produce
//! still waits for the disk. Whatever cannot be read closes the connection.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
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
        loop {
            let Ok(frame) = tokio::time::timeout(idle, self.next_frame(&mut read, &mut buffer)).await else {
                return Err(io::ErrorKind::TimedOut.into());
            };
            let Some(frame) = frame? else { return Ok(()) };
            let answer = match api::dispatch(context, frame).await {
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
    async fn next_frame(&self, read: &mut OwnedReadHalf, buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
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
            // Room grows with what has arrived, not with what was announced.
            buffer.reserve(missing.clamp(4 << 10, (buffer.len() + READ_STEP).max(1 << 20)));
            if read.read_buf(buffer).await? == 0 {
                let whole = buffer.is_empty();
                return if whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

async fn answer_all(mut write: OwnedWriteHalf, mut queue: mpsc::Receiver<Answer>, closed: CancellationToken) {
    while let Some(answer) = queue.recv().await {
        let chunks = match answer {
            Answer::Ready(chunks) => chunks,
            Answer::Later(future) => match future.await {
                Some(chunks) => chunks,
                None => break,
            },
        };
        if write_chunks(&mut write, chunks).await.is_err() {
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
        let slices: Vec<IoSlice<'_>> = chunks[first..].iter().take(64).map(|chunk| IoSlice::new(chunk)).collect();
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
