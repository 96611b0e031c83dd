"""What the C++ kernels of the layers stand on: products, the head with its loss, buffers used again, the build."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from instruction_sets import instruction_sets
from torch import Tensor

from components.errors import UserError
from components.kernels import backends
from components.kernels.head import cross_entropy, step_nats
from components.kernels.native import build, pool, products

pytest_plugins = ["native_fixtures"]
pytestmark = pytest.mark.usefixtures("compiler")


# products


@pytest.mark.parametrize("size", [(1, 1, 1), (7, 5, 3), (70, 300, 65), (64, 257, 128), (200, 3, 17)], ids=str)
def test_products_are_those_of_torch_for_every_layout(size, instruction_set):
    R, K, C = size
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(R, K, generator=generator), torch.randn(K, C, generator=generator)
    wanted = a.double() @ b.double()
    every_second = torch.randn(R, 2 * K, generator=generator)[:, ::2].copy_(a)
    for left in (a, a.t().contiguous().t(), every_second):
        for right in (b, b.t().contiguous().t()):
            torch.testing.assert_close(products.multiply(left, right).double(), wanted, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_gathering_and_scattering_ids_give_the_same_bits_whatever_the_number_of_threads(set_threads):
    generator = torch.Generator().manual_seed(0)
    ids, weight = torch.randint(0, 20, (6000, 2), generator=generator), torch.randn(300, 20, generator=generator)
    results = []
    for threads in (1, 2, 3, 5):
        set_threads(threads)
        assert products.threads_for(6000 * 300 * 3) == threads, "too little work to be shared"
        steps = products.gather(ids, weight, None)
        results.append((steps, *products.scatter(steps, ids, 20)))
    exact = weight.double().t()[ids].sum(1)
    torch.testing.assert_close(results[0][0].double(), exact, rtol=0, atol=1e-6)
    torch.testing.assert_close(results[0][2].double(), exact.sum(0), rtol=1e-4, atol=0.1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


# the head


def head_inputs(ignored: int = -100) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"y": (7, 9, 33), "weight": (21, 33), "bias": (21,)}
    inputs = {name: torch.randn(size, generator=generator) for name, size in sizes.items()}
    inputs["y"] = inputs["y"].transpose(0, 1).contiguous().transpose(0, 1)  # time-major memory, as a layer's
    targets = torch.randint(0, 21, (7, 9), generator=generator)
    targets[2, 3:] = ignored
    return inputs | {"targets": targets}


def test_the_head_is_the_cross_entropy_of_torch_with_its_gradients(instruction_set):
    given = head_inputs()
    results = []
    for dtype in (torch.float32, torch.float64):  # float64 goes to torch
        y, weight, bias = (given[name].to(dtype).requires_grad_() for name in ("y", "weight", "bias"))
        nats = cross_entropy(y, weight, bias, given["targets"])
        results.append([nats, *torch.autograd.grad(nats / 3, [y, weight, bias])])
    assert backends.native_head_applies(given["y"], given["weight"])
    for got, exact in zip(*results, strict=True):
        assert exact.abs().max() > 0
        assert (got.double() - exact).abs().max() < 1e-6 * exact.abs().max()
    assert (results[0][1][2, 3:] == 0).all(), "an ignored target has no gradient"


def test_the_nats_of_each_step_have_gradients_as_each_is_weighed(instruction_set):
    given = head_inputs()
    weights_BT = torch.rand(given["targets"].shape, generator=torch.Generator().manual_seed(3))
    results = []
    for dtype in (torch.float32, torch.float64):
        y, weight, bias = (given[name].to(dtype).requires_grad_() for name in ("y", "weight", "bias"))
        nats = step_nats(y, weight, bias, given["targets"])
        results.append([nats, *torch.autograd.grad((nats * weights_BT.to(dtype)).sum(), [y, weight, bias])])
    for got, exact in zip(*results, strict=True):
        assert got.shape == exact.shape
        assert exact.abs().max() > 0
        assert (got.double() - exact).abs().max() < 1e-6 * exact.abs().max()
    assert (results[0][0][2, 3:] == 0).all(), "an ignored target costs nothing"


def test_the_head_gives_the_same_bits_whatever_the_number_of_threads(set_threads):
    generator = torch.Generator().manual_seed(0)
    y, weight = torch.randn(40, 50, 64, generator=generator), torch.randn(90, 64, generator=generator)
    targets = torch.randint(0, 90, (40, 50), generator=generator)
    results = []
    for threads in (1, 2, 3):
        set_threads(threads)
        inputs = [y.clone().requires_grad_(), weight.clone().requires_grad_()]
        nats = cross_entropy(inputs[0], inputs[1], None, targets)
        results.append([nats.detach(), *torch.autograd.grad(nats, inputs)])
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


def test_large_logits_overflow_nothing_and_a_nan_stays_one():
    weight, targets = torch.eye(20), torch.tensor([[0, 1]])
    y = torch.zeros(1, 2, 20)
    y[0, 0, 0], y[0, 1, 5] = 1000.0, 50.0
    exact = torch.nn.functional.cross_entropy(y[0].double(), targets[0], reduction="sum")
    assert cross_entropy(y, weight, None, targets).item() == pytest.approx(exact.item(), rel=1e-6)
    y[0, 1, 7] = float("nan")
    assert cross_entropy(y, weight, None, targets).isnan()


@pytest.mark.parametrize("bad", [-1, 21, 2**40])
def test_a_target_outside_the_outputs_is_an_error_not_a_write_to_foreign_memory(bad):
    given = head_inputs()
    given["targets"][1, 1] = bad
    with pytest.raises(IndexError, match=r"outside \[0, 21\)"):
        cross_entropy(given["y"], given["weight"], given["bias"], given["targets"])


# buffers


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="needs Linux, for its huge pages")
def test_large_buffers_are_used_again_once_nothing_refers_to_them_and_never_before():
    size = 3 * pool.SMALLEST_BYTES // 4
    first = pool.buffer(size)
    address, view = first.data_ptr(), first[5:7]
    del first
    view.fill_(3.0)
    second = pool.buffer(size).zero_()
    assert second.data_ptr() != address, "a view still uses it"
    assert (view == 3.0).all()
    del view
    assert pool.buffer(size).data_ptr() == address
    kept = pool.kept_bytes()
    for _ in range(20):
        pool.buffer(size), pool.buffer(2 * size)
    assert pool.kept_bytes() <= kept + 4 * 2 * size + 2 * pool.HUGE_PAGE_BYTES, "what is freed doesn't pile up"


# the build


@pytest.mark.slow
def test_without_a_compiler_the_kernels_by_hand_run_after_one_warning(tmp_path):
    script = f"""
import logging, sys, torch
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from components.kernels.function import recurrent
logging.basicConfig(format="%(levelname)s %(message)s")
parameters = {{"weight_ih": torch.ones(2, 3), "weight_hh": torch.ones(2, 2)}}
for _ in range(2):
    y, _ = recurrent("rnn", torch.ones(1, 5, 3), {{"h": torch.zeros(1, 2)}}, parameters)
print(tuple(y.shape))
"""
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(1, 5, 2)", done.stderr
    assert done.stderr.count("WARNING the faster native kernels can't be used") == 1
    assert "no C++ compiler found" in done.stderr


def test_a_compiler_that_fails_is_reported_with_its_words(tmp_path, monkeypatch):
    broken = tmp_path / "broken-c++"
    broken.write_text('#!/bin/sh\ncase "$1" in --version) echo 1.0;; *) echo "fatal: no luck" >&2; exit 1;; esac\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match="fatal: no luck"):
        build.load_native.__wrapped__()
    assert not list(tmp_path.rglob("*.so"))


def test_building_ahead_of_time_says_where_what_and_how_long():
    first = build.build()
    assert first.path.exists()
    assert first.instruction_set == instruction_sets()[0]
    assert build.build() == (first.path, first.instruction_set, 0.0), "a second time there is nothing to compile"
