//! Shared test helpers: golden folders, programs, damaged files.
#![forbid(unsafe_code)]

pub mod hub;
pub mod images;
pub mod program;
pub mod s3;
pub mod spoil;

use std::path::{Path, PathBuf};

/// The golden folder of this name: from `EDITMGT_GOLDEN` or `shared/golden` beside the checkout if
/// it exists (the complete set), else from the selection committed under `tests/golden`. `None` if
/// it is in neither. The path is absolute, so that a model folder elsewhere may refer to it.
pub fn golden(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("EDITMGT_GOLDEN").map(PathBuf::from);
    // Tests run in the folder of their package. A path fixed at build time would be another
    // checkout's if several share a target folder.
    let beside = PathBuf::from("../../shared/golden");
    let committed = PathBuf::from("../tests/golden");
    named
        .into_iter()
        .chain([beside, committed])
        .filter_map(|root| root.join(name).canonicalize().ok())
        .find(|dir| dir.is_dir())
}

/// The golden folder of this name in `tests/golden-amused`, which has the complete set of aMUSEd.
pub fn golden_amused(name: &str) -> PathBuf {
    let dir = Path::new("../tests/golden-amused").join(name);
    dir.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}
