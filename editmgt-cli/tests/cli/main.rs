//! End-to-end tests of the program: outputs, messages, refusals.
#![forbid(unsafe_code)]

mod bad_models;
mod bad_options;
mod bad_photos;
mod batch;
#[cfg(feature = "cloud")]
mod batch_cloud;
mod defaults;
mod devices;
#[cfg(unix)]
mod disk;
mod edit;
#[cfg(unix)]
mod files;
mod help;
mod hub;
mod hub_layouts;
mod jobs;
#[cfg(unix)]
mod kill;
mod lora;
mod low_memory;
mod map;
#[cfg(feature = "serve")]
mod mcp;
mod models;
mod program;
mod quantize;
mod record;
#[cfg(all(feature = "remote", feature = "serve"))]
mod remote;
#[cfg(feature = "serve")]
mod serve;
mod verify;
mod watch;

use editmgt_tests::{images, spoil};
