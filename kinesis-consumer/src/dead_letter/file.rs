//! Dead letters as lines of a local file.
//!
//! Promise: `Ok` means that the line is on the disk: `fsync` of the file and of its directory, each time.
//! Whoever made the file may have died before its name was durable, and nothing shows that. What a crash or a full disk left of a line stays, ended by a line break, and
//! never swallows the letter behind it: readers skip a line that is no JSON, which was never
//! acknowledged.
//!
//! The file is opened and locked for each letter, so that several workers of a machine may share
//! it, and so that it may be moved away at any time. No thread waits for the lock: while another has
//! it, it is tried again and again, and a write that is given up leaves nothing behind that would
//! append the letter later, save where the disk itself hangs. Letters are appended: one that is
//! written twice is two lines.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use super::{DeadLetter, DeadLetters};
use crate::error::BoxError;

/// Between two tries for the lock. Source: none, reasonable default: some writes of a local disk.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why a letter is not in the file.
#[derive(Debug, thiserror::Error)]
#[error("a dead letter was not written to {path}: check the disk and the permissions")]
struct NotWritten {
    path: String,
    source: io::Error,
}

/// Appends dead letters to a local file, one line of JSON each, synced before the consumer goes on;
/// see [`dead_letter`](super) for their form.
///
/// The file is made when missing; its directory has to exist. It is as durable as the disk it is on:
/// for workers whose disks come and go, take a stream or S3.
#[derive(Clone, Debug)]
pub struct FileDeadLetters {
    path: PathBuf,
}

impl FileDeadLetters {
    /// Letters go into the file at `path`. Nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[async_trait]
impl DeadLetters for FileDeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), BoxError> {
        let mut line = letter.to_json();
        line.push(b'\n');
        let line: Arc<[u8]> = line.into();
        loop {
            let (path, line) = (self.path.clone(), Arc::clone(&line));
            let append = tokio::task::spawn_blocking(move || append(&path, &line, sync_directory));
            let appended = AbortOnDropHandle::new(append).await?;
            match appended {
                Ok(Appended::Done) => return Ok(()),
                Ok(Appended::Locked) => tokio::time::sleep(LOCK_PAUSE).await,
                Err(source) => {
                    let path = self.path.display().to_string();
                    return Err(NotWritten { path, source }.into());
                }
            }
        }
    }
}

enum Appended {
    Done,
    /// Somebody else has the lock.
    Locked,
}

fn append(
    path: &Path,
    line: &[u8],
    sync_directory: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<Appended> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    // Given back when the file is closed.
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Appended::Locked),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let is_new = file.metadata()?.len() == 0;
    if !is_new && !ends_a_line(&mut file)? {
        file.write_all(b"\n")?;
    }
    file.write_all(line)?;
    file.sync_all()?;
    sync_directory(path)?;
    Ok(Appended::Done)
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Makes the file's name durable.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Directories cannot be synced here; the file system's journal has to do.
#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_acknowledged_only_when_the_name_of_its_file_is_durable_whoever_made_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("letters.jsonl");
        let broken = append(&path, b"one\n", |_| Err(io::Error::other("no")));
        assert!(broken.is_err());
        // The line is there, and a loss of power may take the file with it.
        assert_eq!(std::fs::read(&path).expect("read"), b"one\n");
        for _ in 0..2 {
            let mut synced = false;
            let again = append(&path, b"one\n", |file| {
                assert_eq!(std::fs::read(file)?.last(), Some(&b'\n'), "written before");
                synced = true;
                Ok(())
            });
            assert!(matches!(again, Ok(Appended::Done)));
            assert!(synced);
        }
    }
}
