//! Published models: what is known of them, their downloads, and the cache they are in.
#![forbid(unsafe_code)]
