//! Every target under libFuzzer; `EDITMGT_FUZZ_TARGET` names it.
#![no_main]

use std::sync::LazyLock;

use editmgt_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("EDITMGT_FUZZ_TARGET").expect("EDITMGT_FUZZ_TARGET names a target");
    editmgt_fuzz::target(&name).expect("EDITMGT_FUZZ_TARGET is one of `editmgt-fuzz list`")
});

fuzz_target!(|bytes: &[u8]| (TARGET.body)(bytes));
