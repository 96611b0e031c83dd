"""The C++ kernels and the sampling loop as compiled for 64-bit ARM, run under an emulator and compared with the kernels
by hand in float64 and with the model's own step."""

from __future__ import annotations

import ctypes
import platform
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_engine
import test_native_kernels as kernel_tests
import test_native_parts as part_tests
import torch

from components.generation.engine import Engine
from components.generation.native import decode as decoding
from components.kernels.native import build, kernels, products

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
ROOT = "/usr/aarch64-linux-gnu"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
        reason="needs an ARM compiler and emulator: apt-get install g++-aarch64-linux-gnu qemu-user",
    ),
]
GATES = {0: 1, 1: 1, 2: 3, 3: 4}  # of each Kind


class Remote:
    """The library's functions, called in the emulated process; arguments travel by value, there and back."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.called = process, set[str]()
        name, lanes, group = process.stdout.readline().split()
        self.decoder = SimpleNamespace(contents=SimpleNamespace(name=name, lanes=int(lanes), group=int(group)))
        self.table_bytes = 0  # of the sampling loop's table: its struct doesn't say

    def __getattr__(self, name: str) -> Any:
        if name in ("reprise_forward", "reprise_backward"):
            return lambda kind, by: self.call(name, kind, by._obj, pass_sizes(by._obj, kind))
        return lambda by: self.call(name, -1, by._obj, SIZES[name](by._obj))

    def reprise_decoder(self, limit: bytes | None) -> Any:
        return self.decoder

    def reprise_decode(self, decoder: Any, by: Any) -> None:
        d = by._obj
        layers = ctypes.cast(d.layer, ctypes.POINTER(decoding.Layer * (d.layers + 1))).contents
        self.call("reprise_decode", -2, d, decode_sizes(d, self.table_bytes), layers)

    def call(self, name: str, kind: int, main: ctypes.Structure, sizes: dict[str, int], layers: Any = ()) -> bool:
        self.called.add(name)
        blocks, homes, fixups = [bytes(main)], [0], []

        def send(owner: int, where: type, at: int, field: str, address: int | None, size: int) -> None:
            if address:
                fixups.append((owner, at + getattr(where, field).offset, len(blocks)))
                blocks.append(ctypes.string_at(address, size))
                homes.append(address)

        for field, size in sizes.items():
            send(0, type(main), 0, field, getattr(main, field), size)
        if layers:
            (owner,) = (target for at, offset, target in fixups if offset == type(main).layer.offset)
            homes[owner] = 0
            for number, layer in enumerate(layers):
                at = number * ctypes.sizeof(layer)
                for field, size in layer_sizes(main, layer, head=number == main.layers).items():
                    send(owner, type(layer), at, field, getattr(layer, field), size)
        whole = [struct.pack("<q", len(name)), name.encode(), struct.pack("<qq", kind, len(blocks))]
        whole += [part for block in blocks for part in (struct.pack("<q", len(block)), block)]
        whole += [struct.pack("<q", len(fixups)), *(struct.pack("<qqq", *fixup) for fixup in fixups)]
        self.process.stdin.write(b"".join(whole))
        self.process.stdin.flush()
        (result,) = struct.unpack("<q", self.process.stdout.read(8))
        for block, home in zip(blocks, homes, strict=True):
            received = self.process.stdout.read(len(block))
            assert len(received) == len(block), "the emulated process died"
            if home:
                ctypes.memmove(home, received, len(received))
            elif block is blocks[0] and name == "reprise_decode":
                main.phase = type(main).from_buffer_copy(received).phase
        return bool(result)


def pass_sizes(p: build.Pass, kind: int) -> dict[str, int]:
    G, steps = GATES[kind] * p.H, p.T * p.B
    states, rows = 4 * (p.T + 1) * p.B * p.H, 4 * p.B * p.H
    dgates = 4 * steps * (4 * p.H if kind == 2 else G)
    dy = 4 * ((p.T - 1) * p.dy_t + (p.B - 1) * p.dy_b + p.H) if steps else 0
    return {
        "lengths": 8 * p.B, "ids": 8 * steps, "table": 4 * p.table_rows * G, "weight": 4 * G * p.H, "bias": 4 * G,
        "gates": 4 * steps * G, "m": 4 * steps * p.H, "h": states, "c": states, "dy": dy, "dgates": dgates,
        "dh": rows, "dc": rows, "record": 4 * steps,
    }  # fmt: skip


def gather_sizes(q: build.Gather) -> dict[str, int]:
    steps = 4 * ((q.N - 1) * q.stride + q.G)
    return {"ids": 8 * q.N * q.S, "bias": 4 * q.G, "table": 4 * q.rows_count * q.G, "steps": steps, "sums": 4 * q.G}


def product_sizes(q: build.Product) -> dict[str, int]:
    a = (q.K - 1) * q.stride_a + q.rows if q.transposed else (q.rows - 1) * q.stride_a + q.K
    b = (q.K - 1) * q.stride_b_k + (q.columns - 1) * q.stride_b_n + 1
    c = (q.rows - 1) * q.stride_c + q.columns
    return {"a": 4 * a, "b": 4 * b, "start": 4 * q.columns, "c": 4 * c, "sums": 4 * q.rows}


SIZES = {
    "reprise_gather": gather_sizes,
    "reprise_scatter": gather_sizes,
    "reprise_product": product_sizes,
    "reprise_entropy": lambda q: {"targets": 8 * q.N, "logits": 4 * q.N * q.V, "nats": 8 * q.N},
}


def decode_sizes(d: decoding.Decode, table_bytes: int) -> dict[str, int]:
    return {
        "layer": ctypes.sizeof(decoding.Layer) * (d.layers + 1), "table": table_bytes, "start": 4 * d.N * d.width,
        "context": 8 * d.N * (d.streams - 1), "tokens": 8 * d.N * d.tokens_stride, "uniforms": 8 * d.N * d.steps,
        "allowed": d.N * d.V if d.allowed_stride else d.V, "logits": 4 * d.N * d.V, "nats": 8 * d.N, "made": 8 * d.N,
        "ended": d.N, "alive": 8 * d.N, "scratch": 8 * d.threads * 2 * d.V,
    }  # fmt: skip


def layer_sizes(d: decoding.Decode, layer: decoding.Layer, *, head: bool) -> dict[str, int]:
    rows, gates, slots = (d.V, 1, 1) if head else (d.H, GATES[d.kind], {2: 4, 3: 4}.get(d.kind, 1))
    weights = rows * gates * (layer.inputs + (0 if head else d.H))
    sums = 4 * rows * slots
    return {
        "weight": weights * (1 if d.bytes else 4), "bias": sums, "scale": sums, "offset": sums,
        "h": 8 * d.N * d.H, "c": 4 * d.N * d.H, "bytes": 2 * d.N * d.H,
    }  # fmt: skip


@pytest.fixture(scope="module")
def libraries() -> tuple[Path, Path, Path]:
    """Both libraries, made as on an ARM machine and kept as ours are; and the program that calls them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", COMPILER)
        patch.setattr(platform, "machine", lambda: "aarch64")
        made = []
        for name, source, variants in (
            ("kernels", build.SOURCE, build.X86),
            ("decode", decoding.HERE / "decode.cpp", decoding.X86),
        ):
            path, cxx, flags = build._target(name, source, variants)
            if not path.exists():
                build._compile(cxx, flags, source, variants, path)
            made.append(path)
    program = made[0].with_suffix(".caller")
    source = Path(__file__).parents[1] / "remote_kernels.cpp"
    subprocess.run([COMPILER, "-O1", f"-I{decoding.HERE}", str(source), "-o", str(program), "-ldl"], check=True)
    return made[0], made[1], program


@pytest.fixture(scope="module")
def remote(libraries) -> Iterator[Remote]:
    kernels_, decode, program = libraries
    command = [EMULATOR, "-L", ROOT, str(program), str(kernels_), str(decode)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Remote(process)
        process.kill()


@pytest.fixture
def arm(remote, monkeypatch) -> Remote:
    for module in (kernels, products, decoding):
        monkeypatch.setattr(module, "load_native", lambda: remote)
    remote.called.clear()
    return remote


def test_it_is_compiled_for_neon(arm) -> None:
    assert (arm.decoder.contents.name, arm.decoder.contents.lanes) == (b"neon", 4)


@kernel_tests.every_case
@pytest.mark.parametrize("shape", [(5, 7, 9, 13), (13, 9, 33, 70)], ids=str)
def test_values_and_every_gradient_are_those_of_the_kernels_by_hand(arm, case, shape) -> None:
    inside = kernel_tests.test_values_and_every_gradient_are_those_of_the_kernels_by_hand
    inside(case, shape, "neon")
    wanted = {"forward", "backward", "gather", "scatter", "product"}
    assert arm.called == {f"reprise_{name}" for name in wanted}


def test_the_nonlinearities_the_products_and_the_loss_are_right(arm, compiler) -> None:
    kernel_tests.test_tanh_and_sigmoid_are_within_a_millionth_everywhere("neon")
    kernel_tests.test_every_nan_stays_nan_in_every_gate("neon")
    part_tests.test_products_are_those_of_torch_for_every_layout((70, 300, 65), "neon")
    part_tests.test_the_head_is_the_cross_entropy_of_torch_with_its_gradients("neon")
    assert "reprise_entropy" in arm.called


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_the_sampling_loop_gives_the_models_logits(arm, kind, precision) -> None:
    model = test_engine.make(kind, num_layers=2, hidden_size=37, sharp=1.0)
    tokens = np.random.default_rng(0).integers(0, 54, (7, 12))
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens[..., None]))[0].numpy()
    engine = Engine(model, precision)
    arm.table_bytes = engine.table.numel() * 4
    got = test_engine.stepped(engine, model, tokens)
    np.testing.assert_allclose(got, expected, atol=2e-5 if precision == "float32" else 2e-2)
    assert arm.called == {"reprise_decode"}
