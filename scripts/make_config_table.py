#!/usr/bin/env python3
"""Writes config files as the installed version of transformers or diffusers writes them.

The files under `tests/data/configs`, which `tests/tests/released_configs.rs` reads, and those under
`editmgt-eval/testdata/configs`, which its encoders read, come from here. Neither library needs torch for this:

    for v in 4.44.2 4.47.1 4.51.3 4.57.1 5.0.0 5.24.0; do
        python3 -m venv t$v && t$v/bin/pip install transformers==$v numpy pillow && t$v/bin/python scripts/make_config_table.py
    done
    for v in 0.30.3 0.32.2 0.35.1; do
        python3 -m venv d$v && d$v/bin/pip install diffusers==$v numpy && d$v/bin/python scripts/make_config_table.py
    done

What is written is the library's: names of keys, which of them are left out, its bookkeeping. The sizes are the
official models'.
"""

import ast
import importlib.util
import json
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "data" / "configs"
# A packaged crate has only its own files, so the configs of the evaluation's encoders lie in it.
ENCODERS = ROOT / "editmgt-eval" / "testdata" / "configs"
# Name: whether `tests` reads it, too.
OF_ENCODERS = {
    "clip": True, "clip_defaults": False, "dinov2": False, "vit": False,
    "preprocessor_bit": False, "preprocessor_clip": False, "preprocessor_vit": False, "processor_clip": False,
}


def write(folder, name, text):
    folders = [folder] if OF_ENCODERS.get(name, True) else []
    if name in OF_ENCODERS and folder.name.startswith("transformers-"):
        folders.append(ENCODERS / folder.name)
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
        (each / f"{name}.json").write_text(text, encoding="utf-8")


def transformers_configs():
    import transformers
    from transformers import CLIPConfig, CLIPTextConfig, Dinov2Config, Gemma2Config, ViTConfig
    from transformers.configuration_utils import PretrainedConfig

    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    folder = TABLE / f"transformers-{transformers.__version__}"
    dtype = "dtype" if version >= (4, 56) else "torch_dtype"
    clip_h = dict(hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_hidden_layers=24,
                  projection_dim=1024, hidden_act="gelu")
    vision_h = dict(hidden_size=1280, intermediate_size=5120, num_attention_heads=16, num_hidden_layers=32,
                    patch_size=14, projection_dim=1024, hidden_act="gelu")

    def named(config, architecture, value):
        # `save_pretrained` of a model sets these, and `from_pretrained` passes its arguments on.
        config.architectures = [architecture]
        setattr(config, dtype, value)
        return config

    # Sizes of google/gemma-2-2b-it; the official pipeline asks for all hidden states.
    gemma_2b = dict(hidden_size=2304, intermediate_size=9216, num_attention_heads=8, num_hidden_layers=26,
                    num_key_value_heads=4, head_dim=256, query_pre_attn_scalar=256, output_hidden_states=True)
    gemma = named(Gemma2Config(**gemma_2b), "Gemma2ForCausalLM", "bfloat16")
    if (4, 46) <= version < (4, 52):
        # `from_pretrained` of these versions leaves it behind.
        gemma._attn_implementation_autoset = True
    configs = {
        "text_encoder": named(CLIPTextConfig(**clip_h), "CLIPTextModelWithProjection", "float32"),
        "text_encoder_legacy_end": named(
            CLIPTextConfig(**clip_h, eos_token_id=2), "CLIPTextModelWithProjection", "float32"),
        "clip": named(CLIPConfig(text_config=clip_h, vision_config=vision_h, projection_dim=1024),
                      "CLIPModel", "float32"),
        "clip_defaults": CLIPConfig(),
        "llm_encoder": gemma,
        "vit": named(ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536), "ViTModel", "float32"),
        "dinov2": named(Dinov2Config(image_size=518, patch_size=14), "Dinov2Model", "float32"),
    }
    for name, config in configs.items():
        write(folder, name, config.to_json_string(use_diff=True))
    # Image processors: of CLIPModel, Dinov2Model and ViTModel. Later versions 5 have a class for each backend, and
    # write the common name.
    def image_processor(kind):
        plain = f"{kind}ImageProcessor"
        return (getattr(transformers, f"{plain}Pil", None) or getattr(transformers, plain))()

    for name, kind in {"clip": "CLIP", "bit": "Bit", "vit": "ViT"}.items():
        write(folder, f"preprocessor_{name}", image_processor(kind).to_json_string())
    if version >= (5,):
        # A model with a tokeniser has one file for all of its processors.
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            (scratch / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
            (scratch / "merges.txt").write_text("#version: 0.2\n")
            tokenizer = transformers.CLIPTokenizer(
                vocab=str(scratch / "vocab.json"), merges=str(scratch / "merges.txt"))
            processor = transformers.CLIPProcessor(
                image_processor=image_processor("CLIP"), tokenizer=tokenizer)
            processor.save_pretrained(scratch / "saved")
            write(folder, "processor_clip", (scratch / "saved" / "processor_config.json").read_text())
    # Every key that any config has, with its default.
    write(folder, "generic", PretrainedConfig().to_json_string(use_diff=False))


def constructor(path, name):
    """The signature of a class's `__init__`, as source, without the annotations: they need torch."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == name:
            init = next(part for part in node.body if getattr(part, "name", "") == "__init__")
            for argument in init.args.args + init.args.kwonlyargs:
                argument.annotation = None
            return ast.unparse(init.args)
    raise SystemExit(f"no class {name} in {path}")


def diffusers_configs():
    import diffusers
    from diffusers.configuration_utils import ConfigMixin, register_to_config

    library = pathlib.Path(diffusers.__file__).parent
    folder = TABLE / f"diffusers-{diffusers.__version__}"

    def config(name, signature, file_name="config.json", **arguments):
        # The library's own writing, for a class with this constructor.
        scope = {"ConfigMixin": ConfigMixin, "register_to_config": register_to_config}
        exec(f"class {name}(ConfigMixin):\n  config_name = {file_name!r}\n"
             f"  @register_to_config\n  def __init__({signature}): pass\n", scope)
        return scope[name](**arguments).to_json_string()

    vq = constructor(library / "models/autoencoders/vq_model.py", "VQModel")
    channels = (128, 256, 256, 512, 768)
    write(folder, "vqvae", config(
        "VQModel", vq, act_fn="silu", block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 5, up_block_types=("UpDecoderBlock2D",) * 5,
        latent_channels=64, layers_per_block=2, num_vq_embeddings=8192, mid_block_add_attention=False,
        lookup_from_codebook=True, force_upcast=True))
    # The schedulers and transformers of this family: the model's own classes, written by this library.
    write(folder, "scheduler", config(
        "Scheduler", "self, mask_token_id, masking_schedule='cosine'", "scheduler_config.json", mask_token_id=8255))
    amused = constructor(library / "schedulers/scheduling_amused.py", "AmusedScheduler")
    write(folder, "scheduler_amused", config("AmusedScheduler", amused, "scheduler_config.json", mask_token_id=8255))
    uvit = constructor(library / "models/unets/uvit_2d.py", "UVit2DModel")
    write(folder, "transformer_amused_512", config(
        "UVit2DModel", uvit, downsample=True, upsample=True, sample_size=32))
    write(folder, "transformer_amused_256", config("UVit2DModel", uvit, sample_size=16))
    meissonic = ("self, patch_size=1, in_channels=64, num_layers=19, num_single_layers=38, attention_head_dim=128, "
                 "num_attention_heads=24, joint_attention_dim=4096, pooled_projection_dim=768, guidance_embeds=False, "
                 "axes_dims_rope=(16, 56, 56), vocab_size=8256, codebook_size=8192, downsample=False, upsample=False")
    sizes = dict(num_layers=14, num_single_layers=28, num_attention_heads=8, pooled_projection_dim=1024)
    base = dict(sizes, joint_attention_dim=1024)
    write(folder, "transformer_meissonic", config(
        "Transformer2DModel", meissonic, **base, downsample=True, upsample=True))
    write(folder, "transformer_monetico", config("Transformer2DModel", meissonic, **base))
    write(folder, "transformer_muddit", config(
        "SymmetricTransformer2DModel", f"{meissonic}, t5_dim=None, tokenizer_vocab_size=None", **base,
        downsample=True, upsample=True, tokenizer_vocab_size=49408))
    write(folder, "transformer_editmgt", config(
        "Transformer2DModel", f"{meissonic}, text_encoder_architecture='CLIP', connector_type='none'", **sizes,
        joint_attention_dim=2304, downsample=True, upsample=True, text_encoder_architecture="CLIP_Gemma2",
        connector_type="linear"))


def main():
    known = {"transformers": transformers_configs, "diffusers": diffusers_configs}
    found = [name for name in known if importlib.util.find_spec(name)]
    if not found:
        sys.exit("neither transformers nor diffusers is installed")
    for name in found:
        known[name]()
    # Sorted and indented alike, so that versions can be compared; nothing else is changed.
    for path in [*TABLE.rglob("*.json"), *ENCODERS.rglob("*.json")]:
        path.write_text(json.dumps(json.loads(path.read_text()), indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
