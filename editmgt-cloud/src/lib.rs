//! Jobs, photos and results by URL: `s3://`, `gs://`, `http(s)://` and files.
#![forbid(unsafe_code)]
