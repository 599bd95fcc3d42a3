//! Serves a registry whose log is in memory; for trying clients against it.
//!
//! `cargo run -p towline-registry --example memory -- 127.0.0.1:8081 [cp7]`

use towline_registry::{Options, Profile, memory};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let profile = if args.next().as_deref() == Some("cp7") { Profile::Cp7 } else { Profile::Cp8 };
    let registry = memory::registry(Options { profile, ..Options::default() });
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, towline_registry::http::router(registry)).await
}
