//! The directory of a durable instance, and the lock that keeps it to one process.
//!
//! ```text
//! DIR/lock                     locked while an instance uses the directory; names its process
//! DIR/kinesis/…                streams and their records
//! DIR/dynamodb/tables.sqlite   tables (SQLite), with its -wal and -shm beside it
//! DIR/dynamodb/backups.json    which tables have point-in-time recovery
//! DIR/s3/<bucket>/<key>        objects as plain files; what S3 keeps about them in DIR/s3/.*
//! ```
//!
//! The lock is the operating system's, on an open file: it is gone when the process is, however it
//! ended, so a left-over `lock` file never keeps anyone out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::{Error, ErrorKind};

/// A data directory that only this instance uses.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    lock: File,
}

impl DataDir {
    /// Creates the directory if it is missing and locks it. Blocks.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let unusable = |error: std::io::Error| {
            Error::new(
                ErrorKind::Storage,
                format!(
                    "the data directory {} cannot be used; check that it can be written",
                    root.display()
                ),
            )
            .with_source(error)
        };
        let root_path = disk::create_dir(root).map_err(unusable)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(root_path.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&root_path, lock)),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(unusable)?;
        Ok(Self {
            root: root_path,
            lock,
        })
    }

    /// A directory inside it, created if missing. Blocks.
    pub(crate) fn part(&self, name: &str) -> Result<PathBuf, Error> {
        let part = self.root.join(name);
        disk::create_dir(&part).map_err(|error| {
            Error::new(
                ErrorKind::Storage,
                format!("{} cannot be created", part.display()),
            )
            .with_source(error)
        })?;
        Ok(part)
    }

    /// Lets another instance in.
    pub(crate) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the data directory stays locked until this process ends");
        }
    }
}

fn in_use(root: &Path, mut lock: File) -> Error {
    let mut owner = String::new();
    let read = lock.read_to_string(&mut owner).is_ok();
    let owner = match owner.trim() {
        process if read && !process.is_empty() => format!("process {process}"),
        _ => "another process".to_owned(),
    };
    Error::new(
        ErrorKind::DataDirInUse,
        format!(
            "the data directory {} is used by a kinesis-local in {owner}; stop it, or choose \
             another directory",
            root.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_used_by_one_instance_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDir::open(directory.path()).unwrap();
        let refused = DataDir::open(directory.path()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::DataDirInUse);
        let own = format!("process {}", std::process::id());
        assert!(refused.to_string().contains(&own), "{refused}");
        first.unlock();
        DataDir::open(directory.path()).unwrap();
    }

    #[test]
    fn a_lock_file_that_was_left_behind_keeps_nobody_out() {
        let directory = tempfile::tempdir().unwrap();
        drop(DataDir::open(directory.path()).unwrap());
        assert!(directory.path().join("lock").exists());
        DataDir::open(directory.path()).unwrap();
    }
}
