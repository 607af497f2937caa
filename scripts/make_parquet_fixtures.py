#!/usr/bin/env python3
"""Writes the parquet files that the tests of data sets read.

    pip install datasets==5.2.0 pillow
    python3 scripts/make_parquet_fixtures.py editmgt-train/src/data/fixtures

The files are written by Hugging Face's own library, so that the tests read what users will have:
its schema, its nulls, its compression. Pictures are flat and tiny.
"""

import io
import sys
from pathlib import Path

from datasets import Dataset, Features, Image, Value
from PIL import Image as Picture


def png(colour, size=(16, 16), hole=False):
    picture = Picture.new("RGBA", size, colour + (255,))
    if hole:
        picture.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


RED, BLUE, GREEN = (200, 30, 30), (30, 30, 200), (30, 200, 30)


def magic_brush():
    def row(img_id, turn, source, mask, instruction, target):
        return dict(img_id=img_id, turn_index=turn, source_img=source, mask_img=mask,
                    instruction=instruction, target_img=target)

    cut_off = {"bytes": png(BLUE)["bytes"][:40], "path": None}
    rows = [
        row("7", 1, png(RED), png(RED, hole=True), "make it blue", png(BLUE)),
        row("7", 2, png(BLUE), None, "make it green", png(GREEN)),
        row("8", 1, png(RED), None, "  ", png(BLUE)),
        row("9", 1, png(RED), None, "make it blue", None),
        row("10", 1, png(RED), None, "make it blue", cut_off),
        row("11", 1, png(RED), None, "make it blue", png(BLUE, size=(24, 16))),
        row("12", 1, png(GREEN), None, None, png(BLUE)),
        row("13", 1, png(GREEN), None, "make it blue", png(BLUE)),
    ]
    features = Features(img_id=Value("string"), turn_index=Value("int32"), source_img=Image(),
                        mask_img=Image(), instruction=Value("string"), target_img=Image())
    return rows, features


def crisp_edit():
    kinds = ["color", "background change", "motion change", "style"]
    rows = [dict(input_img=png(RED), output_img=png(BLUE), instruction=f"make it blue {i}", type=kind)
            for i, kind in enumerate(kinds)]
    features = Features(input_img=Image(), output_img=Image(), instruction=Value("string"),
                        type=Value("string"))
    return rows, features


def emu_edit():
    rows = [dict(instruction="make it blue", image=png(RED), task=task, split="test", idx=i,
                 hash=f"{i:x}", input_caption="red", output_caption="blue", edited_image=png(BLUE),
                 model="emu")
            for i, task in enumerate(["add", "global", "text"])]
    text = Value("string")
    features = Features(instruction=text, image=Image(), task=text, split=text, idx=Value("int64"),
                        hash=text, input_caption=text, output_caption=text, edited_image=Image(),
                        model=text)
    return rows, features


def wrong_types():
    rows = [dict(before=png(RED), after=png(BLUE), instruction=i) for i in range(3)]
    return rows, Features(before=Image(), after=Image(), instruction=Value("int64"))


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    for make in [magic_brush, crisp_edit, emu_edit, wrong_types]:
        rows, features = make()
        # Several row groups in so few rows.
        path = out / f"{make.__name__}.parquet"
        Dataset.from_list(rows, features=features).to_parquet(str(path), batch_size=3)
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
