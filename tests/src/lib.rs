//! What the tests of several crates have in common: golden folders, programs to run, files to spoil.
#![forbid(unsafe_code)]

pub mod pictures;
pub mod program;
pub mod spoil;

use std::path::PathBuf;

/// The golden folder of this name: from `EDITMGT_GOLDEN` or `shared/golden` beside the checkout
/// where that is there (the complete set), else from the selection committed under
/// `tests/golden`. `None` where it is in neither. The path is absolute, so a model folder elsewhere
/// may name it.
pub fn golden(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("EDITMGT_GOLDEN").map(PathBuf::from);
    // Tests run in the folder of their package. Paths of the build would be those of another checkout
    // where several share what was built.
    let beside = PathBuf::from("../../shared/golden");
    let committed = PathBuf::from("../tests/golden");
    named
        .into_iter()
        .chain([beside, committed])
        .filter_map(|root| root.join(name).canonicalize().ok())
        .find(|dir| dir.is_dir())
}
