//! Data, losses and the training loops of editmgt.
#![forbid(unsafe_code)]

pub mod codec;
pub mod data;
pub mod edit;
pub mod run;
#[cfg(test)]
mod small_model_tests;

#[cfg(test)]
mod tests {
    use crate::codec::CodecRun;
    use crate::edit::{EditFile, EditRun};

    #[test]
    fn the_shipped_configs_are_read() {
        CodecRun::from_toml(include_str!("../../configs/world-codec.toml")).unwrap();
        EditRun::from_toml(include_str!("../../configs/embedded-edit.toml")).unwrap();
        CodecRun::from_toml(include_str!("../../configs/second-codec.toml")).unwrap();
        EditRun::from_toml(include_str!("../../configs/second-edit.toml")).unwrap();
        for stage in [
            include_str!("../../configs/editmgt-stage1.toml"),
            include_str!("../../configs/editmgt-stage2.toml"),
            include_str!("../../configs/editmgt-stage3.toml"),
        ] {
            let run = EditFile::from_toml(stage).unwrap();
            assert!(matches!(&run, EditFile::Tune(run) if run.lora.is_none()), "{run:?}");
        }
    }
}
