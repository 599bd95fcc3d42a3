//! A file system for tests: runs out of space, fails to sync, forgets what was not synced, dies between two steps.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::fs::{Fs, LogFile, StdFs};

/// What goes wrong, shared with all open files.
#[derive(Debug)]
struct Faults {
    /// Bytes that may still be appended.
    room: AtomicI64,
    /// Steps (renames, removals, replacements, syncs) that the process still makes before it is dead.
    steps: AtomicI64,
    syncs_fail: AtomicBool,
    /// Length of each log when it was last synced.
    synced: Mutex<HashMap<PathBuf, u64>>,
}

impl Faults {
    fn step(&self) -> io::Result<()> {
        if self.steps.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(io::Error::other("dead")) }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FaultyFs {
    faults: Arc<Faults>,
    inner: StdFs,
}

#[derive(Debug)]
struct FaultyFile {
    path: PathBuf,
    inner: Arc<dyn LogFile>,
    faults: Arc<Faults>,
}

impl FaultyFs {
    pub(crate) fn new() -> Arc<Self> {
        let faults = Faults {
            room: AtomicI64::new(i64::MAX),
            steps: AtomicI64::new(i64::MAX),
            syncs_fail: AtomicBool::new(false),
            synced: Mutex::default(),
        };
        Arc::new(FaultyFs { faults: Arc::new(faults), inner: StdFs })
    }
    /// From now on only `bytes` more fit.
    pub(crate) fn set_room(&self, bytes: i64) {
        self.faults.room.store(bytes, Ordering::SeqCst);
    }
    /// Dies after this many steps: nothing after them changes the disk.
    pub(crate) fn die_after(&self, steps: i64) {
        self.faults.steps.store(steps, Ordering::SeqCst);
    }
    /// Whether syncs of logs fail.
    pub(crate) fn fail_syncs(&self, fail: bool) {
        self.faults.syncs_fail.store(fail, Ordering::SeqCst);
    }
    /// As after a power cut: each file keeps what was synced only.
    pub(crate) fn lose_unsynced(&self) {
        for (path, len) in self.faults.synced.lock().unwrap().iter() {
            if let Ok(file) = OpenOptions::new().write(true).open(path) {
                file.set_len(*len).unwrap();
            }
        }
    }
}

impl LogFile for FaultyFile {
    fn append(&self, parts: [&[u8]; 2]) -> io::Result<()> {
        let want = (parts[0].len() + parts[1].len()) as i64;
        let had = self.faults.room.fetch_sub(want, Ordering::SeqCst);
        if had < want {
            self.faults.room.fetch_add(want, Ordering::SeqCst);
            // A full disk may take a part of the write.
            let fits = usize::try_from(had).unwrap_or(0).min(parts[0].len());
            self.inner.append([&parts[0][..fits], &[]])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.append(parts)
    }
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.inner.read_at(buf, pos)
    }
    fn sync(&self) -> io::Result<()> {
        self.faults.step()?;
        if self.faults.syncs_fail.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk failed"));
        }
        self.inner.sync()?;
        let len = fs::metadata(&self.path).map_or(0, |m| m.len());
        self.faults.synced.lock().unwrap().insert(self.path.clone(), len);
        Ok(())
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }
}

impl Fs for FaultyFs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LogFile>> {
        let inner = self.inner.open(path, create)?;
        self.faults.synced.lock().unwrap().entry(path.to_owned()).or_insert(0);
        Ok(Arc::new(FaultyFile { path: path.to_owned(), inner, faults: self.faults.clone() }))
    }
    fn stat(&self, path: &Path) -> io::Result<(u64, i64)> {
        self.inner.stat(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.inner.read(path)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.faults.synced.lock().unwrap().insert(path.to_owned(), 0);
        self.inner.write(path, bytes)
    }
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.faults.step()?;
        self.faults.synced.lock().unwrap().insert(path.to_owned(), bytes.len() as u64);
        self.inner.replace(path, bytes)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.step()?;
        self.inner.rename(from, to)?;
        let mut synced = self.faults.synced.lock().unwrap();
        if let Some(len) = synced.remove(from) {
            synced.insert(to.to_owned(), len);
        }
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.step()?;
        self.inner.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.step()?;
        self.inner.remove_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.step()?;
        self.inner.sync_dir(path)
    }
}
