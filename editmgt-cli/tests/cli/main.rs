//! The program as its users see it: what it writes, what it prints, how it refuses.
#![forbid(unsafe_code)]

mod bad_models;
mod bad_options;
mod bad_photos;
mod batch;
mod bench;
mod conformance;
#[cfg(feature = "train")]
mod cost;
mod defaults;
mod devices;
#[cfg(unix)]
mod disk;
mod edit;
#[cfg(feature = "train")]
mod eval;
#[cfg(all(unix, feature = "train"))]
mod files;
#[cfg(feature = "train")]
mod gedit;
mod help;
#[cfg(unix)]
mod kill;
mod lora;
mod low_memory;
mod map;
mod models;
mod pictures;
mod precision;
mod program;
mod record;
#[cfg(all(unix, feature = "train"))]
mod run_files;
mod spoil;
mod verify;
mod watch;
