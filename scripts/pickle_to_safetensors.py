#!/usr/bin/env python3
"""Converts the PyTorch weights of a component's folder to safetensors, for repositories that publish
nothing else.

    python3 scripts/pickle_to_safetensors.py FOLDER

FOLDER has `pytorch_model.bin`, `diffusion_pytorch_model.bin`, another single `.bin`, `.pth`, `.pt` or
`.ckpt`, or shards with a `*.bin.index.json`. The result is `model.safetensors`, or
`diffusion_pytorch_model.safetensors` where the pickle's name starts so, in the same folder; the pickles
stay as they are, and a folder with safetensors is refused.

A pickle is a program. `weights_only=True` reads tensors and containers and refuses everything else,
so that a hostile file is an error. Convert on a machine and as a user for which that is enough.

Needs torch 2.6 or later (earlier versions have known ways around `weights_only`) and safetensors.
"""

import json
import pickle
import sys
from pathlib import Path

EXTENSIONS = {".bin", ".pth", ".pt", ".ckpt"}
# Files of a trainer, and one vector of Muddit's text generation.
BESIDE = ("training_args", "optimizer", "scheduler", "rng_state", "mask_token_embedding")
# Where some programs nest the weights.
NESTED = ("state_dict", "model_state_dict", "model")


def pickles(folder):
    """The files to read: those of the index, or the only one."""
    indexes = sorted(folder.glob("*.bin.index.json"))
    if len(indexes) == 1:
        shards = set(json.loads(indexes[0].read_text(encoding="utf-8"))["weight_map"].values())
        if any(Path(name).name != name for name in shards):
            sys.exit(f"{indexes[0]}: a shard is outside the folder")
        return [folder / name for name in sorted(shards)]
    files = sorted(
        path for path in folder.iterdir()
        if path.suffix in EXTENSIONS and not path.name.startswith(BESIDE)
    )
    if len(indexes) > 1 or len(files) != 1:
        found = ", ".join(path.name for path in indexes + files) or "none"
        sys.exit(f"{folder}: expected one file of weights or one index, found {found}")
    return files


def tensors(path, torch):
    """The tensors of a file, by key."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # torch's message recommends to read the file without the protection.
        sys.exit(f"{path}: expected tensors only, found something that could run code, or a damaged file")
    for key in NESTED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found:
        sys.exit(f"{path}: expected tensors by name, found {type(found).__name__}")
    for key, value in found.items():
        if not isinstance(key, str) or not torch.is_tensor(value):
            sys.exit(f"{path}: {key!r}: expected a tensor, found {type(value).__name__}")
    # Copies: safetensors refuses tensors that share memory.
    return {key: value.detach().clone().contiguous() for key, value in found.items()}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    import torch
    from safetensors.torch import save_file

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        sys.exit(f"torch {torch.__version__}: expected 2.6 or later")
    folder = Path(sys.argv[1])
    if any(folder.glob("*.safetensors")):
        sys.exit(f"{folder}: there are safetensors already")
    files = pickles(folder)
    everything = {}
    for path in files:
        for key, value in tensors(path, torch).items():
            if key in everything:
                sys.exit(f"{path}: {key!r} is in two files")
            everything[key] = value
    diffusion = files[0].name.startswith("diffusion_pytorch_model")
    name = "diffusion_pytorch_model.safetensors" if diffusion else "model.safetensors"
    part = folder / f".{name}.part"
    save_file(everything, part, metadata={"format": "pt"})
    part.replace(folder / name)
    print(f"{folder / name}: {len(everything)} tensors")


if __name__ == "__main__":
    main()
