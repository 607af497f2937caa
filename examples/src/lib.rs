//! The examples of this workspace are the files beside this folder.
#![forbid(unsafe_code)]
