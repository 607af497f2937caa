//! The program as its users see it: what it writes, what it prints, how it refuses.
#![forbid(unsafe_code)]

mod bad_models;
mod bad_options;
mod bad_photos;
mod defaults;
mod devices;
mod edit;
#[cfg(feature = "train")]
mod eval;
mod help;
mod lora;
mod models;
mod pictures;
mod program;
mod spoil;
mod verify;
mod watch;
