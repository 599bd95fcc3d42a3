//! The lock of a data directory: held by the broker and by all work on the directory outside of the logs, so that
//! a broker that was dropped keeps the directory until the last of that work has ended.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// How long a start waits for a dropped broker of this process to let go.
const LINGER: Duration = Duration::from_secs(10);

/// Directories whose broker in this process was dropped and may not have ended yet.
static DROPPED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A locked directory; the lock goes with the last owner.
#[derive(Debug)]
pub(crate) struct DirLock {
    dir: PathBuf,
    _file: File,
}

impl DirLock {
    /// Locks a directory. Blocks while a dropped broker of this process ends; any other owner is an error.
    pub(crate) fn take(dir: &Path) -> Result<Arc<Self>, Error> {
        let path = dir.join(".lock");
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| Error::Storage { action, path, source }
        };
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed("open", &path))?;
        let dir = dir.canonicalize().map_err(failed("resolve", dir))?;
        let deadline = Instant::now() + LINGER;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if dropped().contains(&dir) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(TryLockError::WouldBlock) => return Err(Error::Locked { dir }),
                Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
            }
        }
        dropped().remove(&dir);
        Ok(Arc::new(DirLock { dir, _file: file }))
    }

    /// Says that the broker is gone and that only work which ends by itself still holds the lock.
    pub(crate) fn let_go(&self) {
        dropped().insert(self.dir.clone());
    }
}

fn dropped() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    DROPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_free_when_the_last_work_of_a_dropped_broker_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let broker = DirLock::take(dir.path()).unwrap();
        assert!(matches!(DirLock::take(dir.path()), Err(Error::Locked { .. })));
        let work = broker.clone();
        broker.let_go();
        drop(broker);
        let (path, (started, waits)) = (dir.path().to_owned(), std::sync::mpsc::channel());
        let next = std::thread::spawn(move || {
            started.send(()).unwrap();
            DirLock::take(&path).map(drop)
        });
        waits.recv().unwrap();
        drop(work);
        next.join().unwrap().unwrap();
    }
}
