//! Every stage against the official implementation's numbers.
#![forbid(unsafe_code)]
