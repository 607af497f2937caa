//! Data, losses and the training loops of editmgt.
#![forbid(unsafe_code)]

pub mod codec;
pub mod data;
pub mod edit;
mod pair;
pub mod run;
pub mod world;

pub use pair::{Category, EditPair};

#[cfg(test)]
mod tests {
    use crate::codec::CodecRun;
    use crate::edit::EditRun;

    #[test]
    fn the_shipped_configs_are_read() {
        CodecRun::from_toml(include_str!("../../configs/world-codec.toml")).unwrap();
        EditRun::from_toml(include_str!("../../configs/embedded-edit.toml")).unwrap();
    }
}
