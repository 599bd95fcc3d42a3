//! The few file operations that the log needs, as a trait, so that tests can make them fail.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// An open append-only file.
pub(crate) trait LogFile: Send + Sync + Debug {
    /// Appends all parts; on error any prefix may have been written.
    fn append(&self, parts: [&[u8]; 2]) -> io::Result<()>;
    /// Reads at `pos` until `buf` is full or the file ends; answers the number of bytes.
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize>;
    /// Makes the contents durable.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// The file system as seen by the log. Called from any thread; every call may block.
pub(crate) trait Fs: Send + Sync + Debug {
    /// Opens for appending and reading, creating the file if asked.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LogFile>>;
    /// Length and modification time (milliseconds since 1970).
    fn stat(&self, path: &Path) -> io::Result<(u64, i64)>;
    /// Creates a directory and its parents.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whole contents.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Writes a file that can be rebuilt: neither atomic nor synced.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Replaces a file atomically and durably.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Renames a file or directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all in it.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes creations and renames in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// The real thing.
#[derive(Debug, Default)]
pub(crate) struct StdFs;

#[derive(Debug)]
struct StdFile(File);

impl LogFile for StdFile {
    fn append(&self, parts: [&[u8]; 2]) -> io::Result<()> {
        let [mut first, mut second] = parts;
        while !first.is_empty() || !second.is_empty() {
            let written = match (&self.0).write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let of_first = written.min(first.len());
            first = &first[of_first..];
            second = &second[written - of_first..];
        }
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], pos + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

impl Fs for StdFs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(StdFile(OpenOptions::new().read(true).append(true).create(create).open(path)?)))
    }
    fn stat(&self, path: &Path) -> io::Result<(u64, i64)> {
        let meta = fs::metadata(path)?;
        let modified = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        Ok((meta.len(), modified))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let temporary = Path::new(&name);
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(temporary, path)?;
        path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

#[cfg(test)]
pub(crate) mod faulty {
    //! A twin that runs out of space on demand and forgets what was not synced.

    use std::collections::HashMap;
    use std::path::PathBuf;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    type Synced = Arc<Mutex<HashMap<PathBuf, u64>>>;

    /// Counts down the bytes that may still be appended; remembers the synced length of each log.
    #[derive(Debug)]
    pub(crate) struct FaultyFs {
        room: Arc<AtomicI64>,
        synced: Synced,
        inner: StdFs,
    }

    #[derive(Debug)]
    struct FaultyFile {
        path: PathBuf,
        inner: Arc<dyn LogFile>,
        room: Arc<AtomicI64>,
        synced: Synced,
    }

    impl FaultyFs {
        pub(crate) fn new() -> Arc<Self> {
            Arc::new(FaultyFs { room: Arc::new(AtomicI64::new(i64::MAX)), synced: Synced::default(), inner: StdFs })
        }
        /// From now on only `bytes` more fit.
        pub(crate) fn set_room(&self, bytes: i64) {
            self.room.store(bytes, Ordering::SeqCst);
        }
        /// As after a power cut: each log keeps what was synced only.
        pub(crate) fn lose_unsynced(&self) {
            for (path, len) in self.synced.lock().unwrap().iter() {
                if let Ok(file) = OpenOptions::new().write(true).open(path) {
                    file.set_len(*len).unwrap();
                }
            }
        }
    }

    impl LogFile for FaultyFile {
        fn append(&self, parts: [&[u8]; 2]) -> io::Result<()> {
            let want = (parts[0].len() + parts[1].len()) as i64;
            let had = self.room.fetch_sub(want, Ordering::SeqCst);
            if had < want {
                self.room.fetch_add(want, Ordering::SeqCst);
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
            self.inner.sync()?;
            let len = fs::metadata(&self.path).map_or(0, |m| m.len());
            self.synced.lock().unwrap().insert(self.path.clone(), len);
            Ok(())
        }
        fn truncate(&self, len: u64) -> io::Result<()> {
            self.inner.truncate(len)
        }
    }

    impl Fs for FaultyFs {
        fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LogFile>> {
            let inner = self.inner.open(path, create)?;
            self.synced.lock().unwrap().entry(path.to_owned()).or_insert(0);
            let (room, synced) = (self.room.clone(), self.synced.clone());
            Ok(Arc::new(FaultyFile { path: path.to_owned(), inner, room, synced }))
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
            self.inner.write(path, bytes)
        }
        fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            self.inner.replace(path, bytes)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.inner.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.inner.remove(path)
        }
        fn remove_dir(&self, path: &Path) -> io::Result<()> {
            self.inner.remove_dir(path)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            self.inner.sync_dir(path)
        }
    }
}
