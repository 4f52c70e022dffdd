//! Making files and directories survive a loss of power, names included.
//!
//! Promises: what [`sync`] returned for is on the disk; so is the name of what is in a directory that
//! [`sync_dir`] returned for. A test can ask what was synced ([`synced_by`]).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Creates the directory and those above it that are missing; gives back where it really is. Its
/// name, and theirs, survive a loss of power then: also when an earlier process created it and did
/// not come to tell the disk. Blocks.
pub(crate) fn create_dir(path: &Path) -> io::Result<PathBuf> {
    let missing = path.ancestors().take_while(|dir| !is_there(dir)).count();
    std::fs::create_dir_all(path)?;
    let real = path.canonicalize()?;
    for dir in real.ancestors().skip(1).take(missing.max(1)) {
        match sync_dir(dir) {
            // Not ours to read, so not ours to have created.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(real)
}

fn is_there(dir: &Path) -> bool {
    // What is above a relative path is the working directory.
    dir.as_os_str().is_empty() || dir.exists()
}

/// Brings the content of an open file to the disk. Blocks.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    note(path);
    Ok(())
}

/// Brings the names in a directory to the disk. Blocks.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    sync(&File::open(path)?, path)
}

#[cfg(not(test))]
fn note(_path: &Path) {}

#[cfg(test)]
fn note(path: &Path) {
    SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
}

#[cfg(test)]
std::thread_local! {
    static SYNCED: std::cell::RefCell<Vec<PathBuf>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// What `work` synced on this thread, in order.
#[cfg(test)]
pub(crate) fn synced_by(work: impl FnOnce()) -> Vec<PathBuf> {
    SYNCED.take();
    work();
    SYNCED.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_every_new_directory_is_synced_and_that_of_an_old_one_too() {
        let above = tempfile::tempdir().unwrap();
        let above = above.path().canonicalize().unwrap();
        let dir = above.join("a/b");
        let synced = synced_by(|| assert_eq!(create_dir(&dir).unwrap(), dir));
        assert_eq!(synced, [above.join("a"), above]);
        // Its creator may have crashed before it came to that.
        let synced = synced_by(|| assert_eq!(create_dir(&dir).unwrap(), dir));
        assert_eq!(synced, [dir.parent().unwrap()]);
    }
}
