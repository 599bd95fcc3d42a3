//! Starting and stopping: the data directory, recovery, listeners, background work, in one visible order.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::cluster::{Cluster, OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::config::BrokerConfig;
use crate::error::Error;
use crate::group::Coordinator;
use crate::handle::{Handle, Inner, internal_topic};
use crate::lock::DirLock;
use crate::log::{Fs, StdFs, Syncer, uuid_text};
use crate::server::Server;
use crate::{listeners, maintenance, transaction};

const CLEAN_MARK: &str = ".kafka_cleanshutdown";

/// A running broker. Dropping it without [`Broker::shutdown`] is like a crash: nothing is written any more, the
/// next start checks the logs. A start on the same directory in this process waits for work that is under way.
#[derive(Debug)]
pub struct Broker {
    handle: Handle,
    addresses: Vec<SocketAddr>,
    tracker: TaskTracker,
    stop: CancellationToken,
    sync_threads: Vec<JoinHandle<()>>,
    lock: Arc<DirLock>,
}

impl Broker {
    /// Starts a broker: locks the data directory, recovers the logs, listens.
    ///
    /// # Errors
    /// Nothing was started; the message says what to do.
    pub async fn start(config: BrokerConfig) -> Result<Self, Error> {
        let began = Instant::now();
        let config = Arc::new(config);
        let (bound, advertised) = listeners::bind(&config).await?;
        let opening = config.clone();
        let opened = tokio::task::spawn_blocking(move || open(opening)).await;
        let (lock, cluster_id, cluster, clean) = opened.map_err(|e| Error::Thread(io::Error::other(e)))??;
        let cluster = Arc::new(cluster);
        let (syncer, sync_threads) = Syncer::start().map_err(Error::Thread)?;
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let coordinator = Coordinator::load(cluster.clone(), syncer.clone(), config.clone(), tracker.clone());
        let transactions = transaction::Coordinator::load(
            cluster.clone(),
            syncer.clone(),
            config.clone(),
            coordinator.clone(),
            tracker.clone(),
            clean,
        );
        let stopping = AtomicBool::new(false);
        let dir_lock = Arc::downgrade(&lock);
        let inner = Inner { config, cluster, coordinator, transactions, syncer, cluster_id, stopping, lock: dir_lock };
        let handle = Handle(Arc::new(inner));
        tracker.spawn(handle.0.coordinator.clone().run_timers(stop.clone()));
        maintenance::spawn(&handle, &tracker, &stop);
        let server = Server {
            handle: handle.clone(),
            advertised: Arc::new(advertised),
            tracker: tracker.clone(),
            stop: stop.clone(),
            connections: Arc::new(AtomicUsize::new(0)),
        };
        let mut addresses = Vec::new();
        for (index, (listener, address)) in bound.into_iter().enumerate() {
            addresses.push(address);
            tracker.spawn(server.clone().accept(listener, index));
        }
        tracing::info!(?addresses, cluster = handle.cluster_id(), took = ?began.elapsed(), "broker started");
        Ok(Broker { handle, addresses, tracker, stop, sync_threads, lock })
    }

    /// Addresses on which the broker listens, in the order of the listeners.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        self.handle.cluster_id()
    }

    /// The broker's functions without sockets.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops cleanly: connections end, logs are synced, and the next start need not check them.
    ///
    /// # Errors
    /// The logs could not be closed; the next start checks them as after a crash.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.handle.0.stopping.store(true, Ordering::Relaxed);
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(Duration::from_secs(15), self.tracker.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        let (handle, threads) = (self.handle.clone(), std::mem::take(&mut self.sync_threads));
        let closed = tokio::task::spawn_blocking(move || close(&handle, threads)).await;
        closed.map_err(|e| Error::Thread(io::Error::other(e)))?
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.handle.0.stopping.store(true, Ordering::Relaxed);
        self.stop.cancel();
        self.handle.0.syncer.close();
        self.handle.0.cluster.close();
        self.lock.let_go();
    }
}

fn storage(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Storage { action, path, source }
}

fn open(config: Arc<BrokerConfig>) -> Result<(Arc<DirLock>, String, Cluster, bool), Error> {
    let dir = config.data_dir.clone();
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    fs.create_dir(&dir).map_err(storage("create", &dir))?;
    let lock = DirLock::take(&dir)?;
    let cluster_id = identify(fs.as_ref(), &config)?;
    let mark = dir.join(CLEAN_MARK);
    let clean = fs.stat(&mark).is_ok();
    if clean {
        fs.remove(&mark).map_err(storage("remove", &mark))?;
        fs.sync_dir(&dir).map_err(storage("sync", &dir))?;
    }
    for name in fs.list(&dir).map_err(storage("read", &dir))? {
        if name.ends_with("-delete") {
            let path = dir.join(name);
            fs.remove_dir(&path).map_err(storage("remove", &path))?;
        }
    }
    let cluster = Cluster::open(fs, config.clone(), clean)?;
    for name in [OFFSETS_TOPIC, TRANSACTIONS_TOPIC].into_iter().filter(|name| cluster.topic(name).is_none()) {
        let topic = internal_topic(&config, name);
        let failed = |(error, message): (_, String)| io::Error::other(format!("{error}: {message}"));
        cluster.create_topic(&topic, false).map_err(failed).map_err(storage("create the internal topics in", &dir))?;
    }
    Ok((lock, cluster_id, cluster, clean))
}

/// Reads `meta.properties`, or makes it at the first start; answers the cluster's id.
fn identify(fs: &dyn Fs, config: &BrokerConfig) -> Result<String, Error> {
    let path: PathBuf = config.data_dir.join("meta.properties");
    if let Ok(bytes) = fs.read(&path) {
        let text = String::from_utf8_lossy(&bytes);
        let found = text.lines().find_map(|line| line.strip_prefix("cluster.id=")).map(|id| id.trim().to_owned());
        if let Some(found) = found.filter(|id| !id.is_empty()) {
            return match &config.cluster_id {
                Some(wanted) if *wanted != found => {
                    Err(Error::ClusterId { dir: config.data_dir.clone(), found, wanted: wanted.clone() })
                }
                _ => Ok(found),
            };
        }
    }
    let id = config.cluster_id.clone().unwrap_or_else(|| uuid_text(&Uuid::new_v4()));
    let directory = uuid_text(&Uuid::new_v4());
    let text = format!("version=1\ncluster.id={id}\nnode.id={}\ndirectory.id={directory}\n", config.node_id);
    fs.replace(&path, text.as_bytes()).map_err(storage("write", &path))?;
    Ok(id)
}

/// Syncs and closes all logs and leaves the mark of a clean stop.
fn close(handle: &Handle, threads: Vec<JoinHandle<()>>) -> Result<(), Error> {
    let inner = &handle.0;
    let dir = &inner.config.data_dir;
    let mut failed = None;
    for topic in inner.cluster.topics() {
        for partition in &topic.partitions {
            let synced = partition.sync_now().map_err(io::Error::other);
            if let Err(error) = synced.and_then(|()| partition.log().close()) {
                failed = Some(error);
            }
        }
    }
    inner.syncer.close();
    for thread in threads {
        let _ = thread.join();
    }
    if let Some(error) = failed {
        return Err(storage("close the logs in", dir)(error));
    }
    inner.cluster.checkpoint().map_err(storage("write checkpoints in", dir))?;
    let path = dir.join(CLEAN_MARK);
    let mark = File::create(&path).and_then(|mut file| {
        file.write_all(b"{\"version\":0,\"brokerEpoch\":-1}")?;
        file.sync_all()
    });
    mark.map_err(storage("write", &path))?;
    StdFs.sync_dir(dir).map_err(storage("sync", dir))?;
    tracing::info!("broker stopped");
    Ok(())
}
