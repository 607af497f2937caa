#!/usr/bin/env python3
"""Writes the pictures and the expected values that editmgt-eval's metrics and statistics are tested
against.

    python3 scripts/make_metric_references.py editmgt-eval/testdata

The values are those of other people's code: structural similarity and PSNR of scikit-image (the
settings that its documentation gives for Wang et al. 2004), AUC from SciPy's Mann-Whitney test, IoU
from its Jaccard distance, permutation tests and bootstrap intervals of SciPy, NumPy's means, and the
3-norm of libjxl's `butteraugli_main` (in Debian's libjxl-devtools).
Needs scikit-image, SciPy, NumPy, Pillow and that program; the committed values were made with 0.26.0,
1.17.1, 2.4.6, 13.0.0 and 0.11.2.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.distance import jaccard
from scipy.stats import bootstrap, mannwhitneyu, permutation_test
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

HEIGHT, WIDTH = 37, 53


def pictures(rng):
    """A picture, and three others made of it: nearly the same, edited, and of noise."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = np.stack([np.sin(x / 5), np.cos(y / 7), np.sin((x + y) / 9)], -1) * 90 + 120
    before = np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:25, 20:41] = 255
    blurred = before.astype(int)
    blurred[:, 1:] = (blurred[:, 1:] + blurred[:, :-1]) // 2
    edited = before.copy()
    edited[mask > 0] = [200, 40, 30]
    edited[30:, :9] ^= 3
    noise = rng.integers(0, 256, before.shape, dtype=np.uint8)
    return before, mask, {"blurred": blurred.astype(np.uint8), "edited": edited, "noise": noise}


def compare(image, reference, where):
    a, b = image[where] / 255, reference[where] / 255
    options = dict(channel_axis=2, data_range=255, full=True)
    options |= dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    _, similarity = structural_similarity(image.astype(float), reference.astype(float), **options)
    inner = np.zeros_like(where)
    inner[5:-5, 5:-5] = True
    return {
        "pixels": int(where.sum()),
        "l1": float(np.mean(np.abs(a - b))),
        "l2": float(np.mean((a - b) ** 2)),
        "psnr": float(peak_signal_noise_ratio(b, a, data_range=1.0)),
        "ssim": float(similarity[where & inner].mean()),
        "changed": float((image[where] != reference[where]).any(-1).mean()),
    }


def butteraugli(image, reference, mask):
    """Of the whole, and of the picture with the reference in place of one part of it."""

    def distance(image):
        with tempfile.TemporaryDirectory() as folder:
            paths = [f"{folder}/{name}.png" for name in ("reference", "image")]
            for path, pixels in zip(paths, (reference, image)):
                Image.fromarray(pixels).save(path)
            command = ["butteraugli_main", *paths, "--pnorm", "3"]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return float(re.search(r"3-norm: (\S+)", said)[1])

    marked = mask[..., None] > 0
    return {
        "whole": distance(image),
        "inside": distance(np.where(marked, image, reference)),
        "outside": distance(np.where(marked, reference, image)),
    }


def localisation(rng, n, levels):
    """Scores that know something of the truth, with ties where there are few levels."""
    truth = rng.random(n) < 0.3
    scores = np.clip(0.3 * truth + rng.random(n) * 0.7, 0, 1)
    scores = np.float32(np.round(scores * levels) / levels)
    pairs = truth.sum() * (~truth).sum()
    return {
        "scores": scores.tolist(),
        "truth": truth.tolist(),
        "threshold": 0.5,
        "auc": float(mannwhitneyu(scores[truth], scores[~truth]).statistic / pairs),
        "iou": float(1 - jaccard(scores >= 0.5, truth)),
    }


def statistics(rng, n, shift):
    """A sample of paired differences: its interval, and the chance of such a mean without a shift.
    For the small samples SciPy counts every choice of signs."""
    values = rng.normal(shift, 1, n).round(3)
    interval = bootstrap((values,), np.mean, n_resamples=99999, method="percentile", rng=rng)
    test = permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=99999, rng=rng
    )
    low, high = interval.confidence_interval
    return {
        "values": values.tolist(),
        "mean": float(values.mean()),
        "low": float(low),
        "high": float(high),
        "p": float(test.pvalue),
    }


def main():
    out = Path(sys.argv[1])
    rng = np.random.default_rng(5)
    before, mask, others = pictures(rng)
    everywhere = np.ones_like(mask, bool)
    Image.fromarray(before).save(out / "before.png")
    Image.fromarray(mask).save(out / "mask.png")
    rows = []
    for name, image in others.items():
        Image.fromarray(image).save(out / f"{name}.png")
        parts = {"whole": everywhere, "inside": mask > 0, "outside": mask == 0}
        row = {"name": name} | {k: compare(image, before, w) for k, w in parts.items()}
        rows.append(row | {"butteraugli": butteraugli(image, before, mask)})
    maps = [localisation(rng, n, levels) for n, levels in [(40, 1000), (64, 10), (9, 4)]]
    samples = [statistics(rng, n, shift) for n, shift in [(8, 1.0), (12, 0.1), (200, 0.15)]]
    for name, value in {
        "metrics": {"pictures": rows, "localisation": maps},
        "statistics": samples,
    }.items():
        (out / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
