//! The download of one file into the cache.
//!
//! It is written to `HASH.incomplete`, resumes what is there, and gets its name when length and
//! hash are right and its bytes are on the disk: a blob of the cache is always whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use ureq::Body;
use ureq::http::{Response, StatusCode};

use crate::cache::RepositoryCache;
use crate::client::{About, Backoff, Client, Failure, connection};
use crate::hash::{Checksum, Hasher};
use crate::{HubError, HubSettings};

/// Bytes between two calls of the observer.
const CHUNK: usize = 1 << 20;

/// Told about a download; stops it by breaking.
pub(crate) trait Watch {
    /// Bytes of the file that are there.
    fn received(&mut self, bytes: u64) -> ControlFlow<()>;
    /// Waits this long before it continues.
    fn waiting(&mut self, left: Duration, reason: &str) -> ControlFlow<()>;
}

/// A file to download.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client<'a>,
    pub(crate) settings: &'a HubSettings,
    pub(crate) cache: &'a RepositoryCache,
    pub(crate) about: About<'a>,
    pub(crate) url: String,
    pub(crate) size: u64,
    pub(crate) checksum: &'a Checksum,
}

/// The bytes so far.
struct Partial {
    file: File,
    hash: Hasher,
    length: u64,
}

impl Download<'_> {
    /// Downloads the file. A blob that is there is left alone.
    ///
    /// # Errors
    /// [`HubError`]; what was received stays for the next attempt, unless it is damaged.
    pub(crate) fn run(&self, watch: &mut dyn Watch) -> Result<(), HubError> {
        let digits = self.checksum.digits();
        let blob = self.cache.blob(digits);
        let folder = blob.parent().unwrap_or(&blob);
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        let _lock = self.lock(watch)?;
        // Another process may have finished it meanwhile.
        if std::fs::metadata(&blob).is_ok_and(|file| file.len() == self.size) {
            self.cache.remove_unfinished(digits);
            return Ok(());
        }
        let path = self.cache.incomplete(digits);
        let mut partial = self.open(&path)?;
        let mut was_resumed = partial.length > 0;
        loop {
            let received = self.receive(&path, &mut partial, watch);
            if received.is_err() && partial.length == 0 {
                // Nothing to resume; the error is the reason, whether it can be removed or not.
                let _ = std::fs::remove_file(&path);
            }
            received?;
            let file = partial.file;
            let got = partial.hash.digits();
            if got == digits {
                file.sync_all().map_err(|error| self.write_error(&path, error))?;
                break;
            }
            drop(file);
            std::fs::remove_file(&path).map_err(HubError::io(&path))?;
            if !was_resumed {
                let (url, expected) = (self.url.clone(), digits.to_owned());
                return Err(HubError::Damaged { url, expected, got });
            }
            // The part that was there before is the likely culprit.
            was_resumed = false;
            partial = self.open(&path)?;
        }
        std::fs::rename(&path, &blob).map_err(HubError::io(&blob))?;
        editmgt_store::sync_folder(folder)?;
        self.cache.remove_unfinished(digits);
        Ok(())
    }

    /// One process at a time downloads a file; the others wait for it.
    fn lock(&self, watch: &mut dyn Watch) -> Result<Option<File>, HubError> {
        let path = self.cache.lock(self.checksum.digits());
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(HubError::io(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => {
                    let pause = Duration::from_millis(200);
                    if watch.waiting(pause, "another process downloads this file").is_break() {
                        return Err(HubError::Stopped);
                    }
                    std::thread::sleep(pause);
                }
                // A file system without locks.
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }

    /// Opens what is there and hashes it.
    fn open(&self, path: &Path) -> Result<Partial, HubError> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(|error| self.write_error(path, error))?;
        let mut hash = self.checksum.begin(self.size);
        let mut length = 0;
        let mut bytes = vec![0; CHUNK];
        loop {
            match file.read(&mut bytes).map_err(HubError::io(path))? {
                0 => break,
                count => {
                    hash.update(&bytes[..count]);
                    length += count as u64;
                }
            }
        }
        let mut partial = Partial { file, hash, length };
        if length > self.size {
            self.restart(path, &mut partial)?;
        }
        Ok(partial)
    }

    fn restart(&self, path: &Path, partial: &mut Partial) -> Result<(), HubError> {
        partial.file.set_len(0).map_err(HubError::io(path))?;
        partial.file.seek(SeekFrom::Start(0)).map_err(HubError::io(path))?;
        partial.hash = self.checksum.begin(self.size);
        partial.length = 0;
        Ok(())
    }

    /// Receives the rest, over as many connections as it takes.
    fn receive(
        &self,
        path: &Path,
        partial: &mut Partial,
        watch: &mut dyn Watch,
    ) -> Result<(), HubError> {
        let mut backoff = Backoff::new(self.settings);
        while partial.length < self.size {
            let before = partial.length;
            let failure = match self.client.get(&self.url, partial.length, self.about) {
                Ok(response) => {
                    let start = first_byte(&response);
                    if start == Some(0) && partial.length > 0 {
                        // The host knows no ranges and sends all of it.
                        self.restart(path, partial)?;
                    }
                    if start != Some(partial.length) {
                        let problem = format!("expected bytes from {}, got others", partial.length);
                        return Err(HubError::Reply { url: self.url.clone(), problem });
                    }
                    self.copy(path, response, partial, watch)?
                }
                Err(Failure::Final(HubError::Status { status: 416, .. })) if partial.length > 0 => {
                    self.restart(path, partial)?;
                    continue;
                }
                Err(failure) => Some(failure),
            };
            if partial.length > before {
                backoff.reset();
            }
            if let Some(failure) = failure {
                backoff.wait(failure, &mut |left, reason| watch.waiting(left, reason))?;
            }
        }
        Ok(())
    }

    /// Writes an answer's bytes; returns the failure that cut it.
    fn copy(
        &self,
        path: &Path,
        response: Response<Body>,
        partial: &mut Partial,
        watch: &mut dyn Watch,
    ) -> Result<Option<Failure>, HubError> {
        // A hub that sends more than it listed does not fill the disk.
        let mut reader = response.into_body().into_reader().take(self.size - partial.length + 1);
        let mut bytes = vec![0; CHUNK];
        loop {
            let count = match reader.read(&mut bytes) {
                Ok(0) if partial.length < self.size => {
                    let cut = std::io::Error::from(ErrorKind::UnexpectedEof);
                    return Ok(Some(connection(&self.url, ureq::Error::Io(cut))));
                }
                Ok(0) => return Ok(None),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Some(connection(&self.url, error.into()))),
            };
            if partial.length + count as u64 > self.size {
                std::fs::remove_file(path).map_err(HubError::io(path))?;
                return Err(HubError::Damaged {
                    url: self.url.clone(),
                    expected: format!("{} bytes", self.size),
                    got: "more".to_owned(),
                });
            }
            let written = partial.file.write_all(&bytes[..count]);
            written.map_err(|error| self.write_error(path, error))?;
            partial.hash.update(&bytes[..count]);
            partial.length += count as u64;
            if watch.received(partial.length).is_break() {
                return Err(HubError::Stopped);
            }
        }
    }

    fn write_error(&self, path: &Path, error: std::io::Error) -> HubError {
        if error.kind() != ErrorKind::StorageFull && error.kind() != ErrorKind::QuotaExceeded {
            return HubError::io(path)(error);
        }
        let folder = path.parent().unwrap_or(path);
        let free = (self.settings.free_space)(folder).unwrap_or(0);
        HubError::DiskFull { path: folder.to_owned(), needed: self.size, free }
    }
}

/// The place in the file at which an answer begins.
fn first_byte(response: &Response<Body>) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Some(0);
    }
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}
