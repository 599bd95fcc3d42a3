//! What tests start: servers on free ports in folders of their own, stopped when the test ends.

mod kafka;
mod postgres;
mod server;

pub use kafka::{Consumer, produce};
pub use postgres::Postgres;
pub use server::{Towline, TowlineOptions};

use std::future::Future;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A port that was free a moment ago, on an address.
pub fn free_port(address: &str) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
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
