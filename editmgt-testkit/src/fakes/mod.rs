//! Tiny, deterministic stages that fit together.
//!
//! They compute no features worth having, and check their input as the traits ask: good for tests
//! of everything around them.

mod codec;
mod text;
mod transformer;

pub use codec::ColourCodec;
pub use text::WordEncoder;
pub use transformer::CopyTransformer;
