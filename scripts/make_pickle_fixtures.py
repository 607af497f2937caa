#!/usr/bin/env python3
"""Writes the files of PyTorch weights that the tests of editmgt-checkpoint read: good ones as `torch.save` writes
them, and hostile or damaged ones.

    python3 scripts/make_pickle_fixtures.py editmgt-checkpoint/tests/data

Needs only Python. Stand-ins for torch's classes are pickled under torch's names, with the protocol and the
persistent ids of `torch.save`, so that the pickles have the opcodes of real ones.
"""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

MAGIC = 0x1950A86A20F9469CFC6C
FORMATS = {"FloatStorage": "<f", "HalfStorage": "<e", "DoubleStorage": "<d", "LongStorage": "<q"}

torch = types.ModuleType("torch")
torch._utils = types.ModuleType("torch._utils")
sys.modules.update({"torch": torch, "torch._utils": torch._utils})
for name in [*FORMATS, "BFloat16Storage"]:
    setattr(torch, name, type(name, (), {"__module__": "torch"}))


def named(module, name):
    """A function that is pickled as `module.name`."""
    def function(*_):
        raise RuntimeError("a fixture is written, not read")
    function.__module__, function.__name__, function.__qualname__ = module.__name__, name, name
    setattr(module, name, function)
    return function


rebuild = named(torch._utils, "_rebuild_tensor_v2")
parameter = named(torch._utils, "_rebuild_parameter")


class Storage:
    def __init__(self, key, data, kind="FloatStorage", count=None):
        self.key, self.kind = key, kind
        self.bytes = data if isinstance(data, bytes) else b"".join(struct.pack(FORMATS[kind], x) for x in data)
        size = 2 if kind == "BFloat16Storage" else struct.calcsize(FORMATS[kind])
        self.count = len(self.bytes) // size if count is None else count


class Tensor:
    def __init__(self, storage, shape, stride=None, offset=0, is_parameter=False):
        if stride is None:
            stride, step = [], 1
            for side in reversed(shape):
                stride.insert(0, step)
                step *= side
        self.arguments = (storage, offset, tuple(shape), tuple(stride), False, collections.OrderedDict())
        self.is_parameter = is_parameter

    def __reduce_ex__(self, _protocol):
        if self.is_parameter:
            return parameter, (Tensor(*self.arguments[:1], *self.arguments[2:4], self.arguments[1]), True,
                               collections.OrderedDict())
        return rebuild, self.arguments


class Pickler(pickle.Pickler):
    def __init__(self, file, protocol):
        super().__init__(file, protocol)
        self.storages = {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        self.storages[value.key] = value
        return "storage", getattr(torch, value.kind), value.key, "cpu", value.count


def pickled(value, protocol=2):
    file = io.BytesIO()
    pickler = Pickler(file, protocol)
    # A pickle as bytes is written as it is.
    if isinstance(value, bytes):
        return value, {}
    pickler.dump(value)
    return file.getvalue(), pickler.storages


def archive(value, protocol=2, compression=zipfile.ZIP_STORED, more=()):
    """A ZIP archive, as `torch.save` writes it since PyTorch 1.6."""
    text, storages = pickled(value, protocol)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as entries:
        def add(name, data):
            # A date of its own would make each run's files differ.
            entry = zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0))
            entries.writestr(entry, data, compression)
        add("data.pkl", text)
        add("byteorder", b"little")
        for key, storage in storages.items():
            add(f"data/{key}", storage.bytes)
        add("version", b"3\n")
        for name, data in more:
            add(name, data)
    return file.getvalue()


def old(value):
    """Pickles in a row, as `torch.save` wrote before PyTorch 1.6."""
    text, storages = pickled(value)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, 2) for part in (MAGIC, 1001, system)] + [text, pickle.dumps(sorted(storages), 2)]
    for key in sorted(storages):
        parts += [struct.pack("<q", storages[key].count), storages[key].bytes]
    return b"".join(parts)


WEIGHT = [1, -2, 3, 4, 0.5, -6]
BIAS = [0.25, -0.125]


def linear(**more):
    """The state dict of a layer with 3 inputs and 2 outputs."""
    weight = Tensor(Storage("0", WEIGHT), [2, 3])
    found = collections.OrderedDict(weight=weight, bias=Tensor(Storage("1", BIAS), [2]), **more)
    found._metadata = collections.OrderedDict([("", {"version": 1})])
    return found


def halves():
    bfloat16 = b"".join(struct.pack("<f", x)[2:] for x in BIAS)
    return {
        "weight": Tensor(Storage("0", WEIGHT, "HalfStorage"), [2, 3], is_parameter=True),
        "bias": Tensor(Storage("1", bfloat16, "BFloat16Storage"), [2]),
    }


def views():
    """Both tensors in one storage: the bias first, then the weight column by column."""
    columns = [WEIGHT[row * 3 + column] for column in range(3) for row in range(2)]
    storage = Storage("0", BIAS + columns)
    return {"weight": Tensor(storage, [2, 3], [1, 2], 2), "bias": Tensor(storage, [2])}


def cycle():
    values = []
    values.append(values)
    return values


class System:
    def __reduce__(self):
        import os
        return os.system, ("touch hostile-pickle-was-run",)


class Evaluated:
    def __reduce__(self):
        return eval, ("open('hostile-pickle-was-run', 'w')",)


class Foreign:
    """An object of a class of the program that saved it."""


def main():
    folder = Path(sys.argv[1])
    long = {"weight": Tensor(Storage("0", range(6), "LongStorage"), [2, 3]), "bias": Tensor(Storage("1", BIAS), [2])}
    double = {"weight": Tensor(Storage("0", WEIGHT, "DoubleStorage"), [2, 3]), "bias": Tensor(Storage("1", BIAS), [2])}
    Foreign.__module__ = "some_trainer"
    sys.modules["some_trainer"] = types.SimpleNamespace(Foreign=Foreign)
    # One list in ten others, ten times over: ten thousand million values.
    bomb = b"\x80\x02]q\x00" + b"".join(
        b"](" + (b"h" + bytes([n])) * 10 + b"eq" + bytes([n + 1]) for n in range(10)
    ) + b"."
    good = {
        "linear.bin": archive(linear()),
        "linear_old.bin": old(linear()),
        "nested.bin": archive({"epoch": 3, "state_dict": linear()}),
        "halves.bin": archive(halves()),
        "views.bin": archive(views()),
        "views_old.bin": old(views()),
    }
    bad = {
        "double.bin": archive(double),
        "long.bin": archive(long),
        "other_shape.bin": archive({"weight": Tensor(Storage("0", WEIGHT), [3, 2]),
                                    "bias": Tensor(Storage("1", BIAS), [2])}),
        "other_name.bin": archive(linear(scale=Tensor(Storage("2", [1]), [1]))),
        "system.bin": archive(System()),
        "system_beside.bin": archive(linear(beside=System())),
        "system_old.bin": old(linear(beside=System())),
        "eval.bin": archive({"weight": Evaluated()}),
        "foreign.bin": archive(linear(trainer=Foreign())),
        "protocol4.bin": archive(linear(), protocol=4),
        "opcode.bin": archive(b"\x80\x02}0."),
        "no_opcode.bin": archive(b"\x80\x02\xff."),
        "list.bin": archive([1, 2]),
        "number.bin": archive({"weight": 7}),
        "deeper.bin": archive({"layer": {"weight": Tensor(Storage("0", WEIGHT), [2, 3])}}),
        "cycle.bin": archive({"weight": cycle()}),
        "memo_bomb.bin": archive(bomb),
        "depth.bin": archive(b"\x80\x02" + b"]" + b"(" * 3000 + b"t" * 3000 + b"."),
        "compressed.bin": archive({"a": "b" * 500}, compression=zipfile.ZIP_DEFLATED),
        "two_pickles.bin": archive(linear(), more=[("more/data.pkl", b"\x80\x02}.")]),
        "no_pickle.bin": archive(linear()).replace(b"data.pkl", b"data.pkx"),
        "no_storage.bin": archive(linear()).replace(b"data/1", b"data/7"),
        "short_storage.bin": archive({"weight": Tensor(Storage("0", WEIGHT[:4], count=6), [2, 3]),
                                      "bias": Tensor(Storage("1", BIAS), [2])}),
        "past_storage.bin": archive({"weight": Tensor(Storage("0", WEIGHT[:4]), [2, 3])}),
        "expanded.bin": archive({"weight": Tensor(Storage("0", [1]), [1 << 16, 1 << 14], [0, 0])}),
        "overflow.bin": archive({"weight": Tensor(Storage("0", [1]), [1 << 40, 1 << 40], [0, 0])}),
        "string_past_end.bin": archive(b"\x80\x02X\xff\xff\xff\xffabc."),
    }
    for kind, files in [("good", good), ("bad", bad)]:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / kind / name).write_bytes(data)


if __name__ == "__main__":
    main()
