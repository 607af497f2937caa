#!/usr/bin/env python3
"""Makes of the published GEdit-Bench the folder that `editmgt-lab eval gedit` reads.

    pip install datasets pillow
    python3 scripts/gedit_folder.py stepfun-ai/GEdit-Bench DIR

The first argument is what `datasets.load_dataset` takes: a name, or a folder with the parquet files.
"""

import json
import sys
from pathlib import Path

from datasets import load_dataset

WORDS = ["key", "task_type", "instruction", "instruction_language", "Intersection_exist"]


def main():
    source, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "info.jsonl", "w", encoding="utf-8") as lines:
        for row in load_dataset(source, split="train"):
            row["input_image"].convert("RGB").save(folder / f"{row['key']}_SRCIMG.png")
            words = {name: row[name] for name in WORDS}
            lines.write(json.dumps(words, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
