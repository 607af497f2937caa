"""CPU seconds per sample of a training step in PyTorch, for the shapes of configs/second-edit.toml.

The same layers as the model of that config (2 double and 3 single blocks of width 128, 16x16 tokens merged
to 8x8, reference and text beside them, a head of 2,048 codes, a text encoder of 2 layers) with the
losses, AdamW, clipping and the average of the weights; data and encoding are left out. For comparison with
`editmgt-lab train edit`, in turn on the same machine:

    python scripts/pace_of_training.py --steps 10 [--threads 1] [--bf16]

Needs only torch.
"""

import argparse
import time

import torch
from torch import nn
from torch.nn import functional as F

BATCH, WIDTH, HEADS, CODES, TEXT, CELLS, TOKENS = 14, 128, 4, 2048, 16, 64, 256
HEAD = WIDTH // HEADS


def modulated(x, shift, scale):
    return F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale) + shift


def rotate(x, cos, sin):
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.cat([even * cos - odd * sin, odd * cos + even * sin], -1)


class Projection(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.norm_q, self.norm_k = nn.RMSNorm(HEAD, 1e-6), nn.RMSNorm(HEAD, 1e-6)

    def forward(self, x, angles):
        def heads(x):
            return x.view(x.shape[0], x.shape[1], HEADS, HEAD).transpose(1, 2)

        q, k, v = heads(self.q(x)), heads(self.k(x)), heads(self.v(x))
        return rotate(self.norm_q(q), *angles), rotate(self.norm_k(k), *angles), v


def attend(q, keys, values):
    x = F.scaled_dot_product_attention(q, keys, values)
    return x.transpose(1, 2).reshape(x.shape[0], -1, WIDTH)


class FeedForward(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(approximate="tanh"), nn.Linear(4 * WIDTH, WIDTH))


class DoubleBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.ada = nn.ModuleList(nn.Linear(WIDTH, 6 * WIDTH) for _ in range(2))
        self.projections = nn.ModuleList(Projection() for _ in range(2))
        self.outs = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.feeds = nn.ModuleList(FeedForward() for _ in range(2))

    def forward(self, streams, conditions, angles):
        parts, heads = [], []
        for index, x in enumerate(streams):
            own = 0 if index == 0 else 1
            condition = conditions[1 if index == 2 else 0]
            part = self.ada[own](condition).unsqueeze(1).chunk(6, 2)
            parts.append((own, part))
            heads.append(self.projections[own](modulated(x, part[0], part[1]), angles[index]))
        keys, values = (torch.cat([head[i] for head in heads], 2) for i in (1, 2))
        out = []
        for x, (own, part), head in zip(streams, parts, heads):
            x = x + self.outs[own](attend(head[0], keys, values)) * part[2]
            out.append(x + self.feeds[own](modulated(x, part[3], part[4])) * part[5])
        return out, heads[0][0], keys


class SingleBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.ada = nn.Linear(WIDTH, 3 * WIDTH)
        self.projection = Projection()
        self.mlp, self.out = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(5 * WIDTH, WIDTH)

    def forward(self, streams, conditions, angles):
        normed, heads, gates = [], [], []
        for x, condition, angle in zip(streams, conditions, angles):
            shift, scale, gate = self.ada(condition).unsqueeze(1).chunk(3, 2)
            normed.append(modulated(x, shift, scale))
            gates.append(gate)
            heads.append(self.projection(normed[-1], angle))
        keys, values = (torch.cat([head[i] for head in heads], 2) for i in (1, 2))
        out = []
        for x, norm, gate, head in zip(streams, normed, gates, heads):
            hidden = F.gelu(self.mlp(norm), approximate="tanh")
            out.append(x + self.out(torch.cat([attend(head[0], keys, values), hidden], 2)) * gate)
        return out, heads[0][0], keys


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(64, WIDTH)
        layer = dict(dim_feedforward=4 * WIDTH, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True)
        self.text = nn.ModuleList(nn.TransformerEncoderLayer(WIDTH, HEADS, **layer) for _ in range(2))
        self.table = nn.Embedding(CODES + 1, WIDTH)
        self.embed_norm, self.embed = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.down_norm, self.down = nn.RMSNorm(WIDTH), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        self.in_norm, self.project_in = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.condition = nn.Sequential(nn.Linear(WIDTH + 1280, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.double_blocks = nn.ModuleList(DoubleBlock() for _ in range(2))
        self.single_blocks = nn.ModuleList(SingleBlock() for _ in range(3))
        self.out_norm, self.project_out = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up_norm, self.up = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.head_1, self.head_norm = nn.Linear(WIDTH, WIDTH, bias=False), nn.RMSNorm(WIDTH)
        self.head_2, self.changed = nn.Linear(WIDTH, CODES, bias=False), nn.Linear(WIDTH, 1)

    def stream(self, ids):
        x = self.down_norm(self.embed(self.embed_norm(self.table(ids))))
        x = x.view(BATCH, 8, 2, 8, 2, WIDTH).transpose(2, 3).reshape(BATCH, CELLS, 4 * WIDTH)
        return self.project_in(self.in_norm(self.down(x)))

    def forward(self, words, canvas, reference, micro, angles):
        text = self.words(words)
        for layer in self.text:
            text = layer(text)
        pooled = self.condition(torch.cat([text.mean(1), micro], 1))
        conditions = [F.silu(pooled), F.silu(pooled + 1)]
        streams, maps = [text, self.stream(canvas), self.stream(reference)], []
        of_text, of_cells = [tuple(a[:, :, :TEXT] for a in angles), tuple(a[:, :, TEXT:] for a in angles)]

        def record(query, keys):
            scores = query[:, :, :TEXT] @ keys[:, :, : TEXT + CELLS].transpose(2, 3) / HEAD**0.5
            maps.append(scores.softmax(3)[..., TEXT:].mean((1, 2)))

        for block in self.double_blocks:
            streams, query, keys = block(streams, conditions, [of_text, of_cells, of_cells])
        streams = [torch.cat(streams[:2], 1), streams[2]]
        for index, block in enumerate(self.single_blocks):
            streams, query, keys = block(streams, conditions, [angles, of_cells])
            if index < 2:
                record(query, keys)
        x = self.up(self.up_norm(self.project_out(self.out_norm(streams[0][:, TEXT:]))))
        x = x.view(BATCH, 8, 8, 2, 2, WIDTH).transpose(2, 3).reshape(BATCH, TOKENS, WIDTH)
        return self.head_2(self.head_norm(self.head_1(x))), self.changed(x), maps


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="autocast to bf16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = Model()
    print(sum(p.numel() for p in model.parameters()), "parameters")
    average = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01)
    angle = torch.rand(1, 1, TEXT + CELLS, HEAD // 2)
    angles = (angle.cos(), angle.sin())
    times = []
    for step in range(options.steps + 2):
        if step >= 2:
            start = time.process_time()
        canvas, reference, target = (torch.randint(CODES, (BATCH, TOKENS)) for _ in range(3))
        words, micro = torch.randint(64, (BATCH, TEXT)), torch.randn(BATCH, 1280)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            logits, changed, maps = model(words, canvas, reference, micro, angles)
        nll = F.cross_entropy(logits.float().view(-1, CODES), target.view(-1), reduction="none")
        loss = nll.mean() + 0.5 * F.softplus(changed.float()).mean()
        loss = loss - 0.15 * sum((m.float() + 1e-8).log().mean() for m in maps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(model.parameters()), 0.002)
        if step >= 2:
            times.append(time.process_time() - start)
    times.sort()
    print(f"{times[len(times) // 2] / BATCH * 1e3:.1f} ms of CPU per sample (median of {len(times)} steps)")


main()
