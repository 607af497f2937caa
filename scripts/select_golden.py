#!/usr/bin/env python3
"""Copies a selection of the complete golden set into tests/golden.

    python3 scripts/select_golden.py PATH/TO/golden tests/golden

The complete set is too large to commit (23 MB); the selection keeps every stage, both transformer
layouts and one whole edit, and drops repeated runs. Folders are copied as they are, except that
golden.safetensors loses the tensors whose name starts with a prefix in DROP, and the manifest
loses their entries (and, for runs of the scheduler, their `meta`). Needs Python 3.9 or later and
nothing else.
"""

import json
import shutil
import struct
import sys
from pathlib import Path

# Folder -> prefixes of tensors to leave out.
DROP = {
    "clip": [],
    "gemma2": [],
    "localisation": ["big4096"],
    "pipeline_edit_clip_nodown": [],
    "pipeline_edit_gemma_down": ["step3.logits"],
    "pipeline_inpaint_clip_nodown": [],
    "pipeline_t2i_clip_nodown": [],
    "preproc": [],
    "scheduler": ["cosine.", "inpaint.", "local32.", "local64."],
    "tokenizers": [],
    "transformer_down_linear": [
        "dbg.", "sq.t2i", "sq.edit_t0", "sq.edit_t35", "sq.train_t", "sq.edit_s0p5", "sq.edit_s1em9", "ns.",
    ],
    "transformer_nodown_none": [
        "dbg.", "sq.edit_t0", "sq.edit_t35", "sq.train_t", "sq.edit_refsmall", "sq.edit_s1p5",
        "sq.edit_s0p5", "ns.t2i", "ns.edit_s1p5", "ns.edit_s1em9", "ns.edit_s0p5",
    ],
    "vq3": [],
    "vq5": [],
}


def read(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write(path, metadata, tensors):
    header, offset = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (entry, body) in tensors.items():
        header[name] = {**entry, "data_offsets": [offset, offset + len(body)]}
        offset += len(body)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, body in tensors.values():
            file.write(body)


def select(source, target, prefixes):
    shutil.copytree(source, target)
    for file in target.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    target.chmod(0o755)
    if not prefixes:
        return
    keep = lambda name: not name.startswith(tuple(prefixes))
    header, body = read(source / "golden.safetensors")
    metadata = header.pop("__metadata__", None)
    tensors = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if keep(name):
            begin, end = entry["data_offsets"]
            tensors[name] = ({k: entry[k] for k in ("dtype", "shape")}, body[begin:end])
    write(target / "golden.safetensors", metadata, tensors)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["tensors"] = {k: v for k, v in manifest["tensors"].items() if keep(k)}
    manifest["meta"] = {k: v for k, v in manifest["meta"].items() if keep(k + ".")}
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main():
    source, target = map(Path, sys.argv[1:3])
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for folder, prefixes in DROP.items():
        select(source / folder, target / folder, prefixes)
    shutil.copy(source / "MASKLEN.txt", target / "MASKLEN.txt")
    size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
    print(f"{size / 1e6:.2f} MB in {target}")


if __name__ == "__main__":
    main()
