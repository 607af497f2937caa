#!/usr/bin/env python3
"""Times the stages of an edit in PyTorch, in the shapes of `editmgt bench`, and compares.

    python3 scripts/bench_reference.py --preset full --size 512 --json torch.json
    python3 scripts/bench_reference.py --pair target/release/editmgt --rounds 3 --size 512

The second form runs the program and this script in turn, as processes of their own with the same
number of threads, and prints the ratios of their times: below 1, the program is faster. On a machine
that does other things, too, the ratio of CPU times says more than that of the clock.

The codec is diffusers' VQModel, the text models are transformers' CLIPTextModelWithProjection and
Gemma2Model. The transformer is a stand-in: the Flux blocks of diffusers with the widths, depths and
rows of ours (text beside [canvas, reference]), between the same embedding, merging and head. It is
plain: no strength, no capture, no reference stream of its own, and no shortcut in the last block.
Weights are random, or all alike where drawing them takes minutes. Gemma2 leaves out its last layer, as the program does.

FLOPs are counted by torch.utils.flop_counter, an opinion of its own on what `editmgt bench` counts.

Needs torch, diffusers and transformers; the committed numbers were made with 2.5.1, 0.31.0 and
4.46.3. Linux only (peak memory from /proc).
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = ["vq-encode", "vq-decode", "clip", "gemma2", "transformer"]
CLIP_TOKENS, GEMMA_TOKENS, GUIDED = 77, 256, 2

FULL = {
    "size": 1024, "heads": 8, "head_dim": 128, "double": 14, "single": 28, "axes": [16, 56, 56],
    "codes": 8192, "vocab": 8256, "vq": [128, 256, 256, 512, 768], "latent": 64, "groups": 32, "layers": 2,
    "clip": dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
                 projection_dim=1024, vocab_size=49408),
    "gemma": dict(hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
                  num_key_value_heads=4, head_dim=256, query_pre_attn_scalar=256, vocab_size=256000),
}
TINY = {
    "size": 128, "heads": 2, "head_dim": 32, "double": 2, "single": 3, "axes": [8, 12, 12],
    "codes": 64, "vocab": 72, "vq": [8, 8, 8, 16, 16], "latent": 8, "groups": 4, "layers": 1,
    "clip": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
                 projection_dim=64, vocab_size=514),
    "gemma": dict(hidden_size=48, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16, vocab_size=512),
}
PRESETS = {"full": FULL, "tiny": TINY}


def codec(sizes):
    from diffusers import VQModel

    channels = sizes["vq"]
    return VQModel(
        block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * len(channels),
        up_block_types=["UpDecoderBlock2D"] * len(channels),
        layers_per_block=sizes["layers"], latent_channels=sizes["latent"],
        num_vq_embeddings=sizes["codes"], norm_num_groups=sizes["groups"],
        mid_block_add_attention=False, lookup_from_codebook=True,
    )


def vq_encode(sizes, size, place):
    import torch

    model, picture = place(codec(sizes)), torch.rand(1, 3, size, size, device=place.device)

    def run():
        # diffusers' quantizer gives the ids as the third of its extra results.
        return model.quantize(model.encode(picture).latents)[2][2]

    return run, f"{size}x{size} pixels"


def vq_decode(sizes, size, place):
    import torch

    side = size // 2 ** (len(sizes["vq"]) - 1)
    model = place(codec(sizes))
    ids = torch.arange(side * side, device=place.device).mul(7919).remainder(sizes["codes"])
    shape = (1, side, side, sizes["latent"])
    return lambda: model.decode(ids[None], force_not_quantize=True, shape=shape), f"{side}x{side} tokens"


def ids(length, vocabulary, place):
    import torch

    values = torch.arange(1, length + 1, device=place.device)[None]
    values[0, -1] = vocabulary - 1
    return values


def clip(sizes, _size, place):
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(hidden_act="gelu", max_position_embeddings=CLIP_TOKENS, eos_token_id=2, **sizes["clip"])
    model, prompt = place(CLIPTextModelWithProjection(config)), ids(CLIP_TOKENS, config.vocab_size, place)
    return lambda: model(prompt, output_hidden_states=True), f"{CLIP_TOKENS} tokens"


def gemma2(sizes, _size, place):
    from transformers import Gemma2Config, Gemma2Model

    options = dict(sizes["gemma"], hidden_activation="gelu_pytorch_tanh", attn_implementation="eager")
    options["num_hidden_layers"] -= 1
    # Random numbers for 2.6 billion weights take minutes and change no time: all alike will do.
    config = Gemma2Config(**options)
    with place.quickly_filled():
        model = Gemma2Model(config)
    model = place(model)
    prompt = ids(GEMMA_TOKENS, config.vocab_size, place)
    return lambda: model(prompt, use_cache=False), f"{GEMMA_TOKENS} tokens"


def transformer(sizes, size, place):
    import torch
    from diffusers.models.embeddings import FluxPosEmbed
    from diffusers.models.transformers.transformer_flux import (
        FluxSingleTransformerBlock, FluxTransformerBlock)
    from torch import nn

    width, side = sizes["heads"] * sizes["head_dim"], size // 16
    cells = (side // 2) ** 2
    text_size = sizes["gemma"]["hidden_size"]

    class StandIn(nn.Module):
        def __init__(self):
            super().__init__()
            heads = (width, sizes["heads"], sizes["head_dim"])
            self.embed = nn.Embedding(sizes["vocab"], width)
            self.embed_conv = nn.Linear(width, width, bias=False)
            self.down = nn.Conv2d(width, width, 2, stride=2, bias=False)
            self.to_hidden = nn.Linear(width, width, bias=False)
            self.text = nn.Sequential(nn.Linear(text_size, width), nn.Linear(width, width))
            self.rope = FluxPosEmbed(theta=10000, axes_dim=sizes["axes"])
            self.doubles = nn.ModuleList(FluxTransformerBlock(*heads, qk_norm="rms_norm") for _ in range(sizes["double"]))
            self.singles = nn.ModuleList(FluxSingleTransformerBlock(*heads) for _ in range(sizes["single"]))
            self.from_hidden = nn.Linear(width, width, bias=False)
            self.up = nn.ConvTranspose2d(width, width, 2, stride=2, bias=False)
            self.head = nn.Sequential(nn.Linear(width, width, bias=False), nn.RMSNorm(width),
                                      nn.Linear(width, sizes["codes"], bias=False))

        def stream(self, tokens):
            x = self.embed_conv(self.embed(tokens))
            return self.to_hidden(self.down(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2))

        def forward(self, canvas, reference, text, conditioning, positions):
            rotation = self.rope(positions)
            image = torch.cat([self.stream(canvas), self.stream(reference)], 1)
            text = self.text(text)
            for block in self.doubles:
                text, image = block(image, text, conditioning, image_rotary_emb=rotation)
            joint = torch.cat([text, image], 1)
            for block in self.singles:
                joint = block(joint, conditioning, image_rotary_emb=rotation)
            x = self.from_hidden(joint[:, text.shape[1]:][:, :cells])
            x = self.up(x.transpose(1, 2).unflatten(2, (side // 2, side // 2)))
            return self.head(x.flatten(2).transpose(1, 2))

    with place.quickly_filled():
        model = StandIn()
    model = place(model)
    grid = (GUIDED, side, side)
    canvas = torch.full(grid, sizes["vocab"] - 1, device=place.device)
    reference = torch.arange(GUIDED * side * side, device=place.device).mul(7919).remainder(sizes["codes"]).view(grid)
    text = torch.randn(GUIDED, GEMMA_TOKENS, text_size, device=place.device, dtype=place.dtype)
    conditioning = torch.randn(GUIDED, width, device=place.device, dtype=place.dtype)
    own = torch.cartesian_prod(torch.zeros(1), torch.arange(side // 2.0), torch.arange(side // 2.0))
    positions = torch.cat([torch.zeros(GEMMA_TOKENS, 3), own, own]).to(place.device)
    return (lambda: model(canvas, reference, text, conditioning, positions),
            f"{GUIDED} x {GEMMA_TOKENS} + {cells} + {cells} rows")


class Place:
    """Where models go, and in which precision."""

    def __init__(self, device, dtype):
        self.device, self.dtype = device, dtype

    def __call__(self, model):
        return model.to(self.device, self.dtype).eval()

    def quickly_filled(self):
        """Makes modules whose weights are all alike, which takes no time."""
        import contextlib

        import torch

        @contextlib.contextmanager
        def quick():
            names = ["kaiming_uniform_", "uniform_", "normal_", "xavier_uniform_", "trunc_normal_"]
            kept = {name: getattr(torch.nn.init, name) for name in names}
            try:
                for name in names:
                    setattr(torch.nn.init, name, lambda x, *_, **__: x.data.fill_(0.01))
                yield
            finally:
                for name, value in kept.items():
                    setattr(torch.nn.init, name, value)

        return quick()


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def measure(name, sizes, args):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    place = Place(args.device, getattr(torch, args.dtype))
    builders = {"vq-encode": vq_encode, "vq-decode": vq_decode, "clip": clip, "gemma2": gemma2,
                "transformer": transformer}
    started = time.perf_counter()
    run, shape = builders[name](sizes, args.size, place)
    setup = time.perf_counter() - started
    wait = torch.cuda.synchronize if args.device.startswith("cuda") else lambda: None
    seconds, cpu, flops = [], 0.0, None
    # Not inference mode: the counter sees nothing of what it does.
    with torch.no_grad():
        for _ in range(args.warmup):
            run()
        wait()
        Path("/proc/self/clear_refs").write_text("5")
        for _ in range(args.repeat):
            start, cpu_start = time.perf_counter(), time.process_time()
            result = run()
            wait()
            seconds.append(time.perf_counter() - start)
            cpu += time.process_time() - cpu_start
            del result
        peak = status("VmHWM")
        if args.flops:
            with FlopCounterMode(display=False) as counter:
                run()
            flops = counter.get_total_flops()
    median = statistics.median(seconds)
    return {
        "stage": name, "input": shape, "seconds": seconds, "median_seconds": median,
        "min_seconds": min(seconds), "max_seconds": max(seconds), "cpu_seconds": cpu / args.repeat,
        "flops": flops, "gflops_per_second": flops and flops / median / 1e9,
        "peak_memory_bytes": peak, "setup_seconds": setup,
    }


def bench(args):
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    sizes = PRESETS[args.preset]
    stages = []
    for name in args.stages:
        stages.append(measure(name, sizes, args))
        row = stages[-1]
        print(f"{name:14} {row['median_seconds']:9.3f} s  CPU {row['cpu_seconds']:8.2f} s  "
              f"peak {row['peak_memory_bytes'] / 2**30:6.2f} GiB  {row['input']}", flush=True)
        gc.collect()
    return {"version": f"torch {torch.__version__}", "preset": args.preset, "size": args.size,
            "device": args.device, "dtype": args.dtype, "stages": stages,
            "threads": torch.get_num_threads()}


def pair(args):
    """Runs both, stage by stage and in turn: (stage, ours, PyTorch's) of every round."""
    common = ["--preset", args.preset, "--size", str(args.size), "--threads", str(args.threads),
              "--repeat", str(args.repeat), "--warmup", str(args.warmup)]
    dtype = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[args.dtype]
    ours = [args.pair, "bench", "--device", args.device, "--dtype", dtype]
    theirs = [sys.executable, __file__, "--device", args.device, "--dtype", args.dtype]
    rounds = {stage: [] for stage in args.stages}
    environment = dict(os.environ, RAYON_NUM_THREADS=str(args.threads), OMP_NUM_THREADS=str(args.threads))

    def one(command, stage):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "numbers.json"
            subprocess.run([*command, *common, "--stages", stage, "--json", file], check=True,
                           env=environment, stdout=subprocess.DEVNULL)
            return json.loads(file.read_text())["stages"][0]

    for turn in range(args.rounds):
        for stage in args.stages:
            # Who comes first changes from round to round.
            both = [one(command, stage) for command in ([ours, theirs] if turn % 2 == 0 else [theirs, ours])]
            rounds[stage].append(both if turn % 2 == 0 else both[::-1])
            mine, torch = rounds[stage][-1]
            print(f"round {turn + 1} {stage}: {mine['median_seconds']:.3f} s to {torch['median_seconds']:.3f} s, "
                  f"CPU {mine['cpu_seconds']:.2f} s to {torch['cpu_seconds']:.2f} s", file=sys.stderr, flush=True)
    return rounds


def table(rounds):
    """Medians over the rounds of the ratios of each round, ours to PyTorch's."""
    print("| stage | input | time | CPU time | peak memory | rounds |\n|---|---|---|---|---|---|")
    for stage, turns in rounds.items():
        cells = []
        for key in ["median_seconds", "cpu_seconds", "peak_memory_bytes"]:
            ratios = [mine[key] / torch[key] for mine, torch in turns]
            spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
            cells.append(f"{statistics.median(ratios):.2f}{spread}")
        print(f"| {stage} | {turns[0][0]['input']} | {' | '.join(cells)} | {len(turns)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, default="full")
    parser.add_argument("--size", type=int, help="both sides of the picture, a multiple of 32")
    parser.add_argument("--stages", type=lambda text: text.split(","), default=STAGES)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--flops", action="store_true", help="count FLOPs, by one more run")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--pair", metavar="PROGRAM", help="run this editmgt in turn and print ratios")
    parser.add_argument("--rounds", type=int, default=1, help="of --pair")
    args = parser.parse_args()
    unknown = [stage for stage in args.stages if stage not in STAGES]
    if unknown:
        parser.error(f"--stages: expected some of {', '.join(STAGES)}, got {', '.join(unknown)}")
    args.size = args.size or PRESETS[args.preset]["size"]
    if args.pair:
        numbers = pair(args)
        table(numbers)
    else:
        numbers = bench(args)
    if args.json:
        args.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
