//! Opens the log file and brings back the streams that it holds.
//!
//! Promises: every frame that was synced comes back, in order; a torn last frame is cut off, with
//! a warning that tells how many bytes; a broken frame with a whole one behind it, an entry that
//! cannot be read or one that does not fit what came before is an error that names the file and
//! the offset, and the file is left as it is. What comes back is synced before anyone sees it: the
//! process that wrote it may have been killed between write and sync.
//!
//! Not told apart: a last frame whose head was torn, by a loss of power, before a payload that did reach
//! the disk and holds a whole frame of its own, as the bytes of another log do; and a frame that was changed
//! with others behind it. Both are refused, because to cut off what was synced would be worse. A frame does
//! not say where it belongs, and to have it do so would take another version of the format.
//!
//! While it replays it holds what is readable then and one frame: records that a retention has ended
//! or whose stream was deleted are given up, and no record keeps more of its frame than itself.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::Entry;
use super::frame::{self, FILE_HEAD, HEAD_BYTES, Head};
use super::{Commitments, Held};
use crate::catalog::StreamCell;
use crate::disk;
use crate::error::{Error, ErrorKind};
use crate::place::Place;
use crate::stream::consumer::Consumer;

/// Bytes read from the file at once. Source: none, reasonable default.
const READ_AHEAD_BYTES: usize = 1024 * 1024;

/// What the log held.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Positioned where the next frame goes.
    pub(super) file: File,
    pub(super) held: Held,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is no log of this version of kinesis-local")]
    Foreign,
    #[error("the bytes at offset {offset} were changed after they were written")]
    Changed { offset: u64 },
    #[error("the frame at offset {offset} does not fit what came before it: {reason}")]
    Unfit { offset: u64, reason: &'static str },
}

/// Opens or creates the log at `path`; streams that name no place are of `home`. Records that are
/// readable at `trim_until_ms` are kept. Blocks.
pub(super) fn open(path: &Path, home: &Arc<Place>, trim_until_ms: u64) -> Result<Recovered, Error> {
    recover(path, home, trim_until_ms).map_err(|refusal| {
        let kind = match refusal {
            Refusal::Io(_) => ErrorKind::Storage,
            Refusal::Foreign | Refusal::Changed { .. } | Refusal::Unfit { .. } => {
                ErrorKind::Corrupt
            }
        };
        let message = format!("the log {} cannot be opened: {refusal}", path.display());
        Error::new(kind, message).with_source(refusal)
    })
}

fn recover(path: &Path, home: &Arc<Place>, trim_until_ms: u64) -> Result<Recovered, Refusal> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let length = file.metadata()?.len();
    let mut replay = Replay {
        home: Arc::clone(home),
        streams: HashMap::new(),
        last_stream_id: 0,
        commitments: Commitments::new(),
        latest_ms: 0,
        trimmed_ms: 0,
        trim_until_ms,
    };
    let mut end = FILE_HEAD.len() as u64;
    if !has_head(&mut file, length)? {
        write_head(&mut file)?;
    } else {
        let mut reader = BufReader::with_capacity(READ_AHEAD_BYTES, &mut file);
        while let Some(payload) = read_frame(&mut reader, end, length)? {
            let frame_bytes = (HEAD_BYTES + payload.len()) as u64;
            replay.apply(payload, end)?;
            end += frame_bytes;
        }
    }
    if end < length {
        let bytes = length - end;
        tracing::warn!(path = %path.display(), bytes, "Cut off a write that a crash had torn.");
        file.set_len(end)?;
    }
    disk::sync(&file, path)?;
    if let Some(dir) = path.parent() {
        // The file's name has to survive as well.
        disk::sync_dir(dir)?;
    }
    file.seek(SeekFrom::Start(end))?;
    Ok(replay.finish(file))
}

/// Whether the file has its head; without one it is new, or its creation was torn.
fn has_head(file: &mut File, length: u64) -> Result<bool, Refusal> {
    let mut head = Vec::with_capacity(FILE_HEAD.len());
    file.take(FILE_HEAD.len() as u64).read_to_end(&mut head)?;
    if head == FILE_HEAD {
        Ok(true)
    } else if length < FILE_HEAD.len() as u64 && FILE_HEAD.starts_with(&head) {
        Ok(false)
    } else {
        Err(Refusal::Foreign)
    }
}

fn write_head(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&FILE_HEAD)
}

/// The payload of the frame at `offset`; `None`: the log ends here, in order or torn.
fn read_frame(
    reader: &mut (impl Read + io::Seek),
    offset: u64,
    length: u64,
) -> Result<Option<Bytes>, Refusal> {
    let left = length.saturating_sub(offset);
    if left == 0 {
        return Ok(None);
    }
    let mut behind = offset + 1;
    if left >= HEAD_BYTES as u64 {
        let mut head = [0; HEAD_BYTES];
        reader.read_exact(&mut head)?;
        if let Some(head) = Head::parse(&head) {
            let payload = offset + HEAD_BYTES as u64;
            if head.length as u64 <= length - payload {
                let mut payload = vec![0; head.length];
                reader.read_exact(&mut payload)?;
                if head.holds(&payload) {
                    return Ok(Some(payload.into()));
                }
            }
            // What is in the payload is the users': the bytes of another log, for example.
            behind = payload + head.length as u64;
        }
    }
    // Broken. If a whole frame lies behind, this one was synced before that was written.
    if frame::any_behind(reader, behind, length)? {
        Err(Refusal::Changed { offset })
    } else {
        Ok(None)
    }
}

/// Makes the changes again, in their order.
#[derive(Debug)]
struct Replay {
    home: Arc<Place>,
    streams: HashMap<u64, Arc<StreamCell>>,
    last_stream_id: u64,
    commitments: Commitments,
    /// The highest time in what was replayed.
    latest_ms: u64,
    /// What `latest_ms` was when the expired records of all streams were last given up.
    trimmed_ms: u64,
    /// Nothing is given up that is readable at this time.
    trim_until_ms: u64,
}

/// How far the time in the log goes on until all streams are trimmed. Source: none, reasonable
/// default: a twenty-fourth of the shortest retention.
const TRIM_EVERY_MS: u64 = 3_600_000;

impl Replay {
    /// The time that records expire by.
    fn now_ms(&self) -> u64 {
        self.latest_ms.min(self.trim_until_ms)
    }

    fn apply(&mut self, mut payload: Bytes, offset: u64) -> Result<(), Refusal> {
        let mut is_first = true;
        while !payload.is_empty() {
            let entry = Entry::decode(&mut payload);
            let entry = entry.map_err(|_| "it holds an entry that cannot be read");
            // The records of one shard go together. Those of several would keep each other's bytes.
            let alone = is_first && payload.is_empty();
            is_first = false;
            entry
                .and_then(|entry| self.apply_entry(entry, alone))
                .map_err(|reason| Refusal::Unfit { offset, reason })?;
        }
        Ok(())
    }

    /// `alone`: it has a frame to itself.
    fn apply_entry(&mut self, entry: Entry, alone: bool) -> Result<(), &'static str> {
        self.latest_ms = self.latest_ms.max(entry.latest_ms());
        if self.latest_ms >= self.trimmed_ms.saturating_add(TRIM_EVERY_MS) {
            self.trimmed_ms = self.latest_ms;
            for cell in self.streams.values() {
                cell.read().trim_shards(self.now_ms());
            }
        }
        match entry {
            Entry::CreateStream(new) => {
                self.last_stream_id = self.last_stream_id.max(new.id);
                let cell = Arc::new(StreamCell::new(&new, &self.home));
                match self.streams.insert(new.id, cell) {
                    None => Ok(()),
                    Some(_) => Err("a stream's id was given twice"),
                }
            }
            Entry::DeleteStream { stream, at_ms } => {
                let mut stream = self.cell(stream)?.write();
                stream.life.deleted_ms = Some(at_ms);
                stream.forget_records();
                Ok(())
            }
            Entry::Split {
                stream,
                shard,
                key,
                at_ms,
            } => {
                let split = self.cell(stream)?.write().split(shard, key, at_ms);
                split.map_err(|_| "a shard cannot be split like this")
            }
            Entry::Merge {
                stream,
                shard,
                adjacent,
                at_ms,
            } => {
                let merged = self.cell(stream)?.write().merge(shard, adjacent, at_ms);
                merged.map_err(|_| "shards cannot be merged like this")
            }
            Entry::RegisterConsumer {
                stream,
                name,
                at_ms,
                tags,
            } => {
                let consumer = Consumer::registered(at_ms, tags);
                let earlier = self.cell(stream)?.write().consumers.insert(name, consumer);
                match earlier {
                    Some(earlier) if earlier.life.deleted_ms.is_none() => {
                        Err("a consumer was registered twice")
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Entry::DeregisterConsumer {
                stream,
                name,
                at_ms,
            } => {
                let mut stream = self.cell(stream)?.write();
                let consumer = stream.consumers.get_mut(&name);
                let consumer = consumer.filter(|consumer| consumer.life.deleted_ms.is_none());
                let consumer = consumer.ok_or("a consumer was not registered")?;
                consumer.life.deleted_ms = Some(at_ms);
                Ok(())
            }
            Entry::Change {
                stream,
                at_ms,
                change,
            } => self.cell(stream)?.write().apply(&change, at_ms),
            Entry::Commitment {
                place,
                at_ms,
                enabled,
            } => {
                let place = place.unwrap_or_else(|| Arc::clone(&self.home));
                let commitment = self.commitments.entry(place).or_default();
                commitment.update(enabled, at_ms);
                Ok(())
            }
            Entry::Records {
                stream,
                shard,
                key: _,
                records,
            } => {
                let now_ms = self.now_ms();
                let stream = self.cell(stream)?.read();
                let shard = stream.shard(shard).ok_or("a shard is not known")?;
                let mut log = shard.log();
                for mut record in records {
                    if !alone {
                        record.data = Bytes::copy_from_slice(&record.data);
                    }
                    let (index, arrival_ms) = (shard.identity.index, record.arrival_ms);
                    stream.observe(index, record.size(), 1, arrival_ms);
                    if !log.restore(record) {
                        return Err("a sequence number was given twice");
                    }
                }
                log.trim(stream.horizon_ms(now_ms));
                Ok(())
            }
        }
    }

    fn cell(&self, id: u64) -> Result<&Arc<StreamCell>, &'static str> {
        self.streams.get(&id).ok_or("a stream is not known")
    }

    fn finish(self, file: File) -> Recovered {
        let mut cells: Vec<Arc<StreamCell>> = self.streams.into_values().collect();
        cells.sort_by_key(|cell| cell.id);
        Recovered {
            file,
            held: Held {
                streams: cells,
                last_stream_id: self.last_stream_id,
                commitments: self.commitments,
                latest_ms: self.latest_ms,
            },
        }
    }
}
