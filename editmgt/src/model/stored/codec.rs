//! The codec without its weights.

use editmgt_checkpoint::WeightFiles;
use editmgt_core::VqCodec;
use editmgt_vq::{CodecConfig, PatchVqModel, VqModel};

use super::component::{Stored, read_component};
use crate::error::ModelError;
use crate::model::decoder::{decoder_operands, with_decoder};
use crate::model::folder::ModelFolder;
use crate::model::options::LoadOptions;

/// The codec named in the folder's config.
pub(crate) enum StoredCodec {
    Official(Box<Stored<VqModel>>),
    Patch(Box<Stored<PatchVqModel>>),
}

impl StoredCodec {
    pub(crate) fn load(&self) -> Result<Box<dyn VqCodec>, ModelError> {
        Ok(match self {
            Self::Official(codec) => with_decoder(codec.load()?, codec.operands()),
            Self::Patch(codec) => with_decoder(codec.load()?, codec.operands()),
        })
    }
}

/// Pixels of a token along a side, by the config of the codec.
pub(crate) fn codec_factor(
    folder: &ModelFolder,
    options: &LoadOptions,
) -> Result<usize, ModelError> {
    let spec = match read_component(&folder.vqvae, options, CodecConfig::from_json_with)? {
        CodecConfig::Official(config) => config.spec(),
        CodecConfig::Patch(config) => config.spec(),
    };
    Ok(spec.downsample_factor)
}

pub(super) fn open_codec(
    files: WeightFiles,
    options: &LoadOptions,
) -> Result<StoredCodec, ModelError> {
    let (device, dtype) = (&options.device, options.dtype.vq.into());
    let operands = decoder_operands(options);
    Ok(match read_component(files.dir(), options, CodecConfig::from_json_with)? {
        CodecConfig::Official(config) => {
            let build = || Ok((config.keys(), config.init(device)?));
            StoredCodec::Official(Box::new(Stored::open(files, dtype, build)?.decoding(operands)))
        }
        CodecConfig::Patch(config) => {
            let build = || Ok((config.keys(), config.init(device)?));
            StoredCodec::Patch(Box::new(Stored::open(files, dtype, build)?.decoding(operands)))
        }
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use editmgt_backends::{Dtype, DtypePolicy};
    use editmgt_checkpoint::{WeightsName, WriteOptions, module_tensors, write_random};

    use super::*;

    #[test]
    fn the_codec_is_the_one_that_the_config_names() {
        let dir = tempfile::tempdir().unwrap();
        let device = editmgt_backends::open("cpu").unwrap();
        let dtype = DtypePolicy::uniform(Dtype::F32);
        let options = LoadOptions::new(device.clone(), dtype);
        let text = r#"{
            "_class_name": "PatchVqModel",
            "encoder_channels": [8],
            "code_channels": 4,
            "num_codes": 10,
            "decoder_channels": [8, 4],
            "blocks_per_level": 1
        }"#;
        let CodecConfig::Patch(config) = CodecConfig::from_json(text).unwrap() else {
            panic!("another codec")
        };
        let tensors = module_tensors(&config.init(&device).unwrap(), &config.keys()).unwrap();
        let write = WriteOptions::new(WeightsName::Diffusion, DType::F32);
        write_random(dir.path(), &tensors, &write, 1).unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let open = || open_codec(WeightFiles::open(dir.path()).unwrap(), &options);
        assert_eq!(open().unwrap().load().unwrap().spec(), &config.spec());

        std::fs::write(&path, text.replace("PatchVqModel", "AutoencoderKL")).unwrap();
        let Err(error) = open() else { panic!("opened") };
        assert!(matches!(error, ModelError::Config { .. }), "{error}");
        assert!(error.to_string().contains("VQModel or PatchVqModel"), "{error}");
    }
}
