#!/usr/bin/env python3
"""Times the stages of an edit in PyTorch, in the shapes of `editmgt-lab bench`, and compares.

    python3 scripts/bench_reference.py --preset full --size 512 --json torch.json
    python3 scripts/bench_reference.py --pair target/release/editmgt-lab --rounds 3 --size 512
    python3 scripts/bench_reference.py --edits target/release/editmgt-lab --device cuda

The second form runs the program and this script in turn, as separate processes with the same
number of threads, and prints the ratios of their times: below 1, the program is faster. On a machine
that does other things, too, the ratio of CPU times says more than that of the clock.

The third form does so for 512 and 1024 pixels in f32 and bf16, and adds the stages up to whole edits of 16
and 36 steps: the photo encoded, two texts (the instruction and none) by both encoders, in each step a guided
pass and (the program only) all that is no network, the result decoded; nothing loaded. On a GPU the peak is
that of its memory, other programs' left out.

The codec is diffusers' VQModel, the text models are transformers' CLIPTextModelWithProjection and
Gemma2Model. The transformer is a stand-in: the Flux blocks of diffusers with the widths, depths and
rows of ours (text beside [canvas, reference]), between the same embedding, merging and head. It is
plain: no strength, no capture, no separate reference stream, and no shortcut in the last block.
Weights are random, or all alike where drawing them takes minutes. Gemma2 leaves out its last layer, as the program does.

FLOPs are counted by torch.utils.flop_counter, an independent count of what `editmgt-lab bench` counts.

Needs torch, diffusers and transformers; the committed numbers were made with 2.5.1, 0.31.0 and
4.46.3. Linux only (peak memory from /proc).
"""

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
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

    model, picture = place.in_f32(codec(sizes)), torch.rand(1, 3, size, size, device=place.device)

    def run():
        # diffusers' quantizer gives the ids as the third of its extra results.
        return model.quantize(model.encode(picture).latents)[2][2]

    return run, f"{size}x{size} pixels"


def vq_decode(sizes, size, place):
    import torch

    side = size // 2 ** (len(sizes["vq"]) - 1)
    model = place.in_f32(codec(sizes))
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

    def in_f32(self, model):
        """The codec, which both run in f32 always."""
        return model.to(self.device).eval()

    def quickly_filled(self):
        """Makes modules whose weights are all alike, which takes no time."""
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


DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


class GpuMemory:
    """The most memory of the first GPU that is in use in its `with`, beyond what was before it."""

    def __enter__(self):
        self.before, self.most, self.done = self.used(), 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def watch(self):
        while not self.done.wait(0.05):
            self.most = max(self.most, self.used() - self.before)

    @staticmethod
    def used():
        query = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return int(subprocess.check_output(query)) * 2**20


def in_turn(args, size, dtype, stages):
    """Runs both, stage by stage and in turn: (stage, ours, PyTorch's) of every round; what PyTorch has
    no stage for is None."""
    common = ["--preset", args.preset, "--size", str(size), "--threads", str(args.threads),
              "--repeat", str(args.repeat), "--warmup", str(args.warmup)]
    ours = [args.pair or args.edits, "bench", "--device", args.device, "--dtype", DTYPES[dtype]]
    theirs = [sys.executable, __file__, "--device", args.device, "--dtype", dtype]
    rounds = {stage: [] for stage in stages}
    environment = dict(os.environ, RAYON_NUM_THREADS=str(args.threads), OMP_NUM_THREADS=str(args.threads))

    def one(command, stage):
        if command is theirs and stage not in STAGES:
            return None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "numbers.json"
            command = [*command, *common, "--stages", stage, "--json", file]
            gpu = GpuMemory() if args.device.startswith("cuda") else None
            with gpu or contextlib.nullcontext():
                subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            numbers = json.loads(file.read_text())["stages"][0]
            return dict(numbers, peak_memory_bytes=gpu.most) if gpu else numbers

    for turn in range(args.rounds):
        for stage in stages:
            # Who comes first changes from round to round.
            both = [one(command, stage) for command in ([ours, theirs] if turn % 2 == 0 else [theirs, ours])]
            rounds[stage].append(both if turn % 2 == 0 else both[::-1])
            mine, torch = rounds[stage][-1]
            beside = f", PyTorch {torch['median_seconds']:.3f} s, CPU {torch['cpu_seconds']:.2f} s" if torch else ""
            print(f"{size} {dtype}, round {turn + 1}, {stage}: {mine['median_seconds']:.3f} s, "
                  f"CPU {mine['cpu_seconds']:.2f} s{beside}", file=sys.stderr, flush=True)
    return rounds


def edits(args):
    """A row for each size, dtype and number of steps."""
    # How often an edit runs each, and how often each of its steps does.
    once, each_step = {"vq-encode": 1, "clip": 2, "gemma2": 2, "vq-decode": 1}, ["transformer", "step"]
    rows = []
    for size in args.sizes:
        for dtype in args.dtypes:
            rounds = in_turn(args, size, dtype, [*once, *each_step])
            for steps in args.steps:
                row = {"size": size, "dtype": DTYPES[dtype], "steps": steps}
                for side, name in enumerate(["editmgt", "pytorch"]):
                    runs = {stage: [turn[side] for turn in turns if turn[side]] for stage, turns in rounds.items()}
                    row[name] = {
                        "seconds": sum(
                            once.get(stage, steps) * statistics.median(run["median_seconds"] for run in turns)
                            for stage, turns in runs.items() if turns),
                        "peak_memory_bytes": max(run["peak_memory_bytes"] for turns in runs.values() for run in turns),
                    }
                rows.append(row)
    return rows


def edits_table(rows, device):
    print(f"On {device}, with PyTorch beside it:\n")
    print("| size | dtype | steps | editmgt | PyTorch | ratio | memory, editmgt | PyTorch |\n|---|---|---|---|---|---|---|---|")
    for row in rows:
        mine, torch = row["editmgt"], row["pytorch"]
        print(f"| {row['size']}x{row['size']} | {row['dtype']} | {row['steps']} | {mine['seconds']:.2f} s | "
              f"{torch['seconds']:.2f} s | {mine['seconds'] / torch['seconds']:.2f} | "
              f"{mine['peak_memory_bytes'] / 1e9:.1f} GB | {torch['peak_memory_bytes'] / 1e9:.1f} GB |")


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
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--flops", action="store_true", help="count FLOPs, by one more run")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--pair", metavar="PROGRAM", help="run this editmgt-lab in turn and print ratios")
    parser.add_argument("--edits", metavar="PROGRAM", help="run this editmgt-lab in turn and print a table of edits")
    parser.add_argument("--rounds", type=int, default=1, help="of --pair and --edits")
    numbers = lambda text: [int(number) for number in text.split(",")]
    parser.add_argument("--sizes", type=numbers, default=[512, 1024], help="of --edits")
    parser.add_argument("--steps", type=numbers, default=[16, 36], help="of --edits")
    parser.add_argument("--dtypes", type=lambda text: text.split(","), default=["float32", "bfloat16"], help="of --edits")
    args = parser.parse_args()
    unknown = [stage for stage in args.stages if stage not in STAGES]
    if unknown:
        parser.error(f"--stages: expected some of {', '.join(STAGES)}, got {', '.join(unknown)}")
    if strange := set(args.dtypes) - set(DTYPES):
        parser.error(f"--dtypes: expected some of {', '.join(DTYPES)}, got {', '.join(strange)}")
    args.size = args.size or PRESETS[args.preset]["size"]
    if args.edits:
        import torch

        numbers = edits(args)
        edits_table(numbers, torch.cuda.get_device_name() if args.device.startswith("cuda") else args.device)
    elif args.pair:
        numbers = in_turn(args, args.size, args.dtype, args.stages)
        table(numbers)
    else:
        numbers = bench(args)
    if args.json:
        args.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
