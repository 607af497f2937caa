//! Where the tests find their golden folders.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// The golden folder of this name: from `EDITMGT_GOLDEN` or `shared/golden` beside the checkout
/// where that is there (the complete set), else from the selection committed under
/// `tests/golden`. `None` where it is in neither.
pub fn golden(name: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("EDITMGT_GOLDEN").map(PathBuf::from);
    let beside = here.join("../../shared/golden");
    let committed = here.join("golden");
    named
        .into_iter()
        .chain([beside, committed])
        .map(|root| root.join(name))
        .find(|dir| dir.is_dir())
}
