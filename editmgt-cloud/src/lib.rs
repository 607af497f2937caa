//! Jobs, photos and results by URL: `s3://`, `gs://`, `http(s)://`, `file://` and paths.
//!
//! ```text
//! text ─► Location ─► Cloud::get, list, head ─► bytes         Downloads ─► temporary files
//!                     Cloud::put ─► an object, whole or not at all
//! ```
//!
//! The stores are those of the crate `object_store`, which retries failed requests. Credentials
//! come from the environment and are in no message.
//!
//! ```no_run
//! use editmgt_cloud::{Cloud, Location};
//!
//! # fn main() -> Result<(), editmgt_cloud::CloudError> {
//! let cloud = Cloud::from_env()?;
//! let photo = cloud.get(&Location::parse("s3://photos/cat.jpg")?, 64 << 20)?;
//! cloud.put(&Location::parse("gs://results/cat.jpg")?, photo, true)?;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod cloud;
mod error;
mod location;
mod secrets;

pub use cloud::{Cloud, Downloads, ObjectInfo};
pub use error::CloudError;
pub use location::{Location, StoreId, is_url};
