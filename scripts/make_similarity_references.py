#!/usr/bin/env python3
"""Writes the tiny checkpoints and the expected values that editmgt-eval's image and text encoders are
tested against.

    pip install torch==2.5.1 transformers==4.46.3 pillow==13.0.0 "numpy<2.2"
    python3 scripts/make_similarity_references.py editmgt-eval/testdata

The models are those of `transformers` with random weights, some hundred kilobytes together, written
in the layout of the Hugging Face hub; pixels, features and the tokens behind them are what
`transformers` makes of the pictures and captions. The similarities are computed from the features by
PyTorch, as the script of InstructPix2Pix does it (metrics/clip_similarity.py): features of length 1,
whose differences are the directions. The pictures are those of make_metric_references.py and one that
has to be shrunk.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import cosine_similarity, normalize
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    CLIPTokenizerFast,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = ["t h", "th e</w>", "r e", "re d</w>", "c i", "a r", "ci r", "l e</w>", "o n</w>"]
POSITIONS = 16
CAPTIONS = [
    "a red circle",
    "the blue circle on the table",
    "",
    # More than fits: the end is cut off, the end token stays.
    "red the circle on the left of the picture and another one far away",
]
# Before, after, truth, caption before, caption after.
EDITS = [
    ("before", "edited", "blurred", 0, 1),
    ("before", "noise", "edited", 1, 0),
    ("edited", "edited", "before", 0, 3),
    ("blurred", "before", "noise", 1, 1),
]


def wide_picture(path):
    """150 x 61: nothing divides anything."""
    y, x = np.mgrid[0:61, 0:150]
    waves = [np.sin(x / 3 + y / 11), np.cos(x * y / 190), np.sign(np.sin(x / 9) * np.cos(y / 4))]
    Image.fromarray((np.stack(waves, -1) * 100 + 128).astype(np.uint8)).save(path)


def randomise(model, seed):
    """Random weights that every input shows through: those of a fresh model nearly ignore it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() < 2:
                is_scale = name.endswith(("weight", "lambda1"))
                parameter.copy_(noise * 0.2 + (1.0 if is_scale else 0.0))
            else:
                parameter.copy_(noise * 0.25)
    return model.eval()


def save_vocabulary(out):
    letters = [chr(ord("a") + i) for i in range(26)]
    tokens = letters + [letter + "</w>" for letter in letters]
    tokens += [merge.replace(" ", "") for merge in MERGES] + [START, END]
    (out / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    return len(tokens)


def clip_config(vocabulary, activation, eos):
    shared = dict(intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    shared |= dict(hidden_act=activation)
    text = dict(vocab_size=vocabulary, hidden_size=16, max_position_embeddings=POSITIONS)
    text |= dict(eos_token_id=eos, bos_token_id=vocabulary - 2, **shared)
    vision = dict(hidden_size=20, image_size=32, patch_size=8, **shared)
    return text, vision, 12


def clip(out):
    """As a recent version of the library saves it."""
    vocabulary = save_vocabulary(out)
    text, vision, width = clip_config(vocabulary, "quick_gelu", vocabulary - 1)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=width)
    model = randomise(CLIPModel(config), 1)
    model.save_pretrained(out)
    tokenizer = CLIPTokenizerFast(
        str(out / "vocab.json"), str(out / "merges.txt"), model_max_length=POSITIONS
    )
    tokenizer.save_pretrained(out)
    # The vocabulary is in tokenizer.json, too.
    (out / "vocab.json").unlink()
    (out / "merges.txt").unlink()
    processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor.save_pretrained(out)
    return model, processor, tokenizer


def clip_old(out):
    """As the first folders were: halves in shards, every key of a config twice, sizes as plain
    numbers, position ids among the weights, no end token in the config."""
    vocabulary = save_vocabulary(out)
    text, vision, width = clip_config(vocabulary, "gelu", 2)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=width)
    model = randomise(CLIPModel(config), 2).half()
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    state["text_model.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    keys = sorted(state)
    index = {}
    for number, part in enumerate([keys[::2], keys[1::2]], 1):
        name = f"model-{number:05}-of-00002.safetensors"
        save_file({key: state[key] for key in part}, out / name, metadata={"format": "pt"})
        index |= {key: name for key in part}
    size = sum(value.numel() * value.element_size() for value in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": index}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))

    written = config.to_dict()
    # What the second ones say counts.
    written["text_config"] |= dict(num_attention_heads=4, hidden_act="relu")
    written |= dict(text_config_dict=text, vision_config_dict=vision)
    (out / "config.json").write_text(json.dumps(written, indent=1))
    old = dict(do_center_crop=True, do_normalize=True, do_resize=True, resample=3)
    old |= dict(crop_size=32, size=36, feature_extractor_type="CLIPFeatureExtractor")
    old |= dict(image_mean=[0.48, 0.46, 0.41], image_std=[0.27, 0.26, 0.28])
    (out / "preprocessor_config.json").write_text(json.dumps(old, indent=1))
    tokens = dict(bos_token=START, eos_token=END, pad_token=END, unk_token=END)
    (out / "special_tokens_map.json").write_text(json.dumps(tokens, indent=1))
    tokenizer = CLIPTokenizer.from_pretrained(out)
    processor = CLIPImageProcessor.from_pretrained(out)
    loaded = CLIPModel.from_pretrained(out, torch_dtype=torch.float32).eval()
    return loaded, processor, tokenizer


def dinov2(out):
    """More positions than the pictures have patches, as in the real ones, and in another shape."""
    config = Dinov2Config(
        hidden_size=18, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2, image_size=42,
        patch_size=7,
    )
    model = randomise(Dinov2Model(config), 3)
    model.save_pretrained(out)
    processor = BitImageProcessor(
        size={"shortest_edge": 33}, crop_size={"height": 28, "width": 21},
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )
    processor.save_pretrained(out)
    return model, processor


def vit(out):
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        image_size=32, patch_size=8, qkv_bias=False,
    )
    model = randomise(ViTModel(config), 4)
    model.save_pretrained(out)
    processor = ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    processor.save_pretrained(out)
    return model, processor


def cosine(a, b):
    return float(cosine_similarity(a.double(), b.double(), dim=0))


def unit(a):
    return normalize(a.double(), dim=0)


def similarities(image, text, edit):
    """Of one edit; `text` is None for a model that reads no captions."""
    before, after, truth, said, wanted = edit
    before, after, truth = image[before], image[after], image[truth]
    found = {"image": cosine(after, truth), "image_from_photo": cosine(after, before)}
    if text is not None:
        said, wanted = text[said], text[wanted]
        found["text"] = cosine(after, wanted)
        change = unit(wanted) - unit(said)
        # Equal captions ask for no change.
        if change.norm() > 0:
            found["direction"] = cosine(unit(after) - unit(before), change)
    return found


@torch.no_grad()
def main():
    root = Path(sys.argv[1])
    out = root / "encoders"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    wide_picture(out / "wide.png")
    pictures = {name: root / f"{name}.png" for name in ["before", "blurred", "edited", "noise"]}
    pictures["wide"] = out / "wide.png"
    pictures = {name: Image.open(path) for name, path in pictures.items()}
    tensors, found = {}, {}
    for make in [clip, clip_old, dinov2, vit]:
        name = make.__name__
        (out / name).mkdir()
        model, processor, *tokenizer = make(out / name)
        image, text = {}, None
        for picture, pixels in pictures.items():
            pixels = processor(pixels, return_tensors="pt")["pixel_values"]
            if tokenizer:
                feature = model.get_image_features(pixel_values=pixels)
            else:
                feature = model(pixel_values=pixels).last_hidden_state[:, 0]
            image[picture] = feature[0]
            tensors |= {f"{name}.pixels.{picture}": pixels[0].contiguous()}
            tensors |= {f"{name}.image.{picture}": feature[0].clone()}
        if tokenizer:
            options = dict(padding=True, truncation=True, max_length=POSITIONS)
            tokens = tokenizer[0](CAPTIONS, return_tensors="pt", **options)
            text = model.get_text_features(**tokens)
            tensors |= {f"{name}.text.{i}": row.clone() for i, row in enumerate(text)}
        found[name] = [similarities(image, text, edit) for edit in EDITS]
    save_file(tensors, out / "references.safetensors")
    edits = [dict(zip(["before", "after", "truth", "said", "wanted"], edit)) for edit in EDITS]
    written = {"captions": CAPTIONS, "edits": edits, "similarities": found}
    (out / "references.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
