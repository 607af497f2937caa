//! A folder that gets all of its files, or none.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use editmgt_store::PendingFile;

use crate::CheckpointError;

/// Files under temporary names, until all are complete.
pub(crate) struct Output {
    /// Dropped first, so that the folder is empty when it is removed.
    complete: Vec<(PendingFile, PathBuf)>,
    dir: OutputDir,
}

/// The folder, and what to remove from it unless the work is finished.
struct OutputDir {
    path: PathBuf,
    made: bool,
    named: Vec<PathBuf>,
}

impl Output {
    /// Makes the folder where it is missing; it must be empty where it is not.
    pub(crate) fn begin(dir: &Path) -> Result<Self, CheckpointError> {
        let made = !dir.try_exists().map_err(CheckpointError::io(dir))?;
        std::fs::create_dir_all(dir).map_err(CheckpointError::io(dir))?;
        let guard = OutputDir { path: dir.to_owned(), made, named: Vec::new() };
        if std::fs::read_dir(dir).map_err(CheckpointError::io(dir))?.next().is_some() {
            return Err(CheckpointError::NotEmpty { dir: dir.to_owned() });
        }
        Ok(Self { complete: Vec::new(), dir: guard })
    }

    /// Writes one file, which gets its name at the end.
    pub(crate) fn file(
        &mut self,
        name: &str,
        write: impl FnOnce(&Path, &mut BufWriter<&File>) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let path = self.dir.path.join(name);
        let pending = PendingFile::create(&path)?;
        let mut file = BufWriter::with_capacity(1 << 20, pending.as_file());
        write(&path, &mut file)?;
        // Some systems report a full disk only here.
        file.flush()
            .and_then(|()| pending.as_file().sync_all())
            .map_err(CheckpointError::io(&path))?;
        drop(file);
        self.complete.push((pending, path));
        Ok(())
    }

    /// Names the files, in the order in which they were written.
    pub(crate) fn finish(mut self) -> Result<(), CheckpointError> {
        for (pending, path) in self.complete.drain(..) {
            pending.commit()?;
            self.dir.named.push(path);
        }
        self.dir.named.clear();
        self.dir.made = false;
        Ok(())
    }
}

impl Drop for OutputDir {
    fn drop(&mut self) {
        // The error that led here is the one to report.
        for path in &self.named {
            let _ = std::fs::remove_file(path);
        }
        if self.made {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}
