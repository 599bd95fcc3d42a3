//! What tests start: servers on free ports in folders of their own, stopped when the test ends.

mod kafka;
mod postgres;
mod server;

pub use kafka::{Consumer, produce, topics};
pub use postgres::Postgres;
pub use server::{Towline, TowlineOptions};

use std::future::Future;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// A port of its own on an address, below the range from which systems give ports to whoever connects or listens: a
/// server that is stopped finds it free when it comes back.
pub fn free_port(address: &str) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    let first = std::process::id().wrapping_mul(89) % PORTS.len() as u32;
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from((first + step) % PORTS.len() as u32).unwrap();
        if TcpListener::bind((address, port)).is_ok() {
            return port;
        }
    }
}

/// Waits until a condition gives a value; fails with what it is about after a while.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, condition: impl FnMut() -> F) -> T {
    eventually_within(Duration::from_secs(60), what, condition).await
}

/// As [`eventually`], with a deadline of its own.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within {patience:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
