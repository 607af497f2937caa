//! The published models that are known, and the source of each figure.

use serde::Serialize;

/// What is known of a published model.
///
/// Sizes are in bytes. *Seen* figures stand on the repositories' pages or in the official code;
/// *computed* ones follow from the number of parameters and their dtype; where neither is possible
/// there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KnownModel {
    /// The short name.
    pub alias: &'static str,
    /// The repository on the hub.
    pub repository: &'static str,
    /// What it does.
    pub tasks: &'static [&'static str],
    /// Width and height of its images in pixels.
    pub pixels: u32,
    /// Licence of the weights, as the repository states it.
    pub licence: &'static str,
    /// Terms of parts with another licence.
    pub licence_note: Option<&'static str>,
    /// Bytes to download: without a variant.
    pub download: Option<u64>,
    /// Bytes to download of the variant `fp16`; `None` where the repository has none or its size
    /// was not seen.
    pub download_fp16: Option<u64>,
    /// Parameters of transformer and text encoders, computed from their sizes.
    pub quantizable: Option<u64>,
    /// The source of the sizes.
    pub size_source: &'static str,
    /// The parts, in other repositories, too.
    pub parts: &'static [KnownPart],
}

/// A part of a known model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KnownPart {
    /// Its name: `transformer`, `vqvae`, `text_encoder`, `tokenizer`, `llm_encoder`, `scheduler`.
    pub component: &'static str,
    /// The repository, if it is not the model's.
    pub repository: Option<&'static str>,
    /// The folder in the repository.
    pub folder: &'static str,
}

const fn own(component: &'static str, folder: &'static str) -> KnownPart {
    KnownPart { component, repository: None, folder }
}

const fn meissonic(component: &'static str) -> KnownPart {
    KnownPart { component, repository: Some("MeissonFlow/Meissonic"), folder: component }
}

const STANDARD: &[KnownPart] = &[
    own("transformer", "transformer"),
    own("vqvae", "vqvae"),
    own("text_encoder", "text_encoder"),
    own("tokenizer", "tokenizer"),
    own("scheduler", "scheduler"),
];

const MUDDIT_512: &[KnownPart] = &[
    own("transformer", "512/transformer"),
    meissonic("vqvae"),
    meissonic("text_encoder"),
    meissonic("tokenizer"),
    meissonic("scheduler"),
];

const MUDDIT_1024: &[KnownPart] = &[
    own("transformer", "1024/transformer"),
    meissonic("vqvae"),
    meissonic("text_encoder"),
    meissonic("tokenizer"),
    meissonic("scheduler"),
];

/// The known models. To add one, add a row here and a layout to the tests.
pub const KNOWN: &[KnownModel] = &[
    KnownModel {
        alias: "editmgt",
        repository: "WeiChow/EditMGT",
        tasks: &["edit", "generate", "inpaint"],
        pixels: 1024,
        licence: "CC-BY-4.0",
        licence_note: Some(
            "llm_encoder is Gemma 2 2B, under Google's Gemma terms: https://ai.google.dev/gemma/terms",
        ),
        download: Some(11_300_000_000),
        download_fp16: None,
        quantizable: Some(3_978_000_000),
        size_source: "computed: transformer (1,009,306,624 parameters), codec and CLIP in f32, Gemma in bf16; 16.5 GB \
                      with Gemma in f32",
        parts: &[
            own("transformer", "editmgt"),
            own("vqvae", "vqvae"),
            own("text_encoder", "text_encoder"),
            own("tokenizer", "tokenizer"),
            own("llm_encoder", "llm_encoder"),
            own("scheduler", "scheduler"),
        ],
    },
    KnownModel {
        alias: "meissonic",
        repository: "MeissonFlow/Meissonic",
        tasks: &["generate", "inpaint"],
        pixels: 1024,
        licence: "Apache-2.0",
        licence_note: None,
        download: Some(6_035_000_000),
        download_fp16: Some(3_013_000_000),
        quantizable: Some(1_362_000_000),
        size_source: "seen: transformer 4.03 GB (fp16 2.01), codec 585 MB (293), CLIP 1.42 GB; computed: CLIP in fp16, \
                      half of that",
        parts: STANDARD,
    },
    KnownModel {
        alias: "monetico",
        repository: "Collov-Labs/Monetico",
        tasks: &["generate", "inpaint"],
        pixels: 512,
        licence: "Apache-2.0",
        licence_note: None,
        download: None,
        download_fp16: None,
        quantizable: None,
        size_source: "not seen; the layout is Meissonic's, with f32 weights alone",
        parts: STANDARD,
    },
    KnownModel {
        alias: "amused-512",
        repository: "amused/amused-512",
        tasks: &["generate", "inpaint"],
        pixels: 512,
        licence: "openrail++",
        licence_note: None,
        download: Some(3_510_000_000),
        download_fp16: None,
        quantizable: Some(731_000_000),
        size_source: "seen: transformer 2.43 GB (fp16 1.22), CLIP 495 MB, codec 585 MB",
        parts: STANDARD,
    },
    KnownModel {
        alias: "amused-256",
        repository: "amused/amused-256",
        tasks: &["generate", "inpaint"],
        pixels: 256,
        licence: "openrail++",
        licence_note: None,
        download: None,
        download_fp16: None,
        quantizable: None,
        size_source: "not seen; the layout is that of amused-512",
        parts: STANDARD,
    },
    KnownModel {
        alias: "muddit-512",
        repository: "MeissonFlow/Muddit",
        tasks: &["generate", "inpaint"],
        pixels: 512,
        licence: "see its page",
        licence_note: Some(
            "codec, text encoder, tokenizer and scheduler are Meissonic's: Apache-2.0",
        ),
        download: None,
        download_fp16: None,
        quantizable: None,
        size_source: "the transformer's was not seen; 2.01 GB of Meissonic",
        parts: MUDDIT_512,
    },
    KnownModel {
        alias: "muddit-1024",
        repository: "MeissonFlow/Muddit",
        tasks: &["generate", "inpaint"],
        pixels: 1024,
        licence: "see its page",
        licence_note: Some(
            "codec, text encoder, tokenizer and scheduler are Meissonic's: Apache-2.0",
        ),
        download: None,
        download_fp16: None,
        quantizable: None,
        size_source: "the transformer's was not seen; 2.01 GB of Meissonic",
        parts: MUDDIT_1024,
    },
];

impl KnownModel {
    /// Bytes of memory that the weights take on the CPU, where they keep the dtype that they are
    /// stored in: those of the download, as tokenizers and configs hardly count. Activations come
    /// on top. With `--low-memory` only the largest part is in memory at a time.
    pub fn memory(&self) -> Option<u64> {
        self.download
    }

    /// The same with the weights of transformer and text encoders in `bits`, 8 or 4, about: half a
    /// bit more for scales, and the codec in f32.
    pub fn memory_quantized(&self, bits: u8) -> Option<u64> {
        /// The codec of all of them.
        const CODEC: u64 = 585_000_000;
        let half_bits = u64::from(bits) * 2 + 1;
        self.quantizable.map(|parameters| parameters * half_bits / 16 + CODEC)
    }
}
