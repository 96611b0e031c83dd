"""Models in other software's forms: the same numbers, the same text, and what can't be exported is refused."""

from __future__ import annotations

import copy
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from components.bundle import Bundle, load_bundle, save_bundle
from components.encodings.vocabulary import SPECIALS
from components.errors import UserError
from components.export import onnx
from components.export.huggingface import export_huggingface
from components.export.onnx import TOLERANCE, Step, difference, export_onnx
from components.training.session import Session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def onnxruntime() -> object:
    pytest.importorskip("onnxscript", reason="needs ONNX: pip install onnx onnxscript onnxruntime")
    return pytest.importorskip("onnxruntime", reason="needs ONNX: pip install onnx onnxscript onnxruntime")


@pytest.fixture
def bundled(small_recipe, small_store, tmp_path):
    """A bundle of an untrained model, and its folder."""

    def make(framing: str = "sequences", **sections: dict) -> tuple[Bundle, Path]:
        recipe = small_recipe(framing, **sections)
        store = small_store(recipe)
        session = Session(recipe, store, "cpu", 1)
        with torch.no_grad():  # an untrained model draws nearly evenly: what is drawn shall depend on the state
            for parameter in session.model.parameters():
                parameter.mul_(3)
        digest = store.manifest["digests"]["content"]
        facts = {
            "framing": framing,
            "metrics": {"test/nats_per_char": 1.25, "val/nats_per_char": 1.5},
            "data": {"name": "own", "digest": digest},
            "versions": {"reprise": "9.9"},
        }
        folder = tmp_path / f"bundle-{framing}"
        save_bundle(folder, "small", session.model, session.encoding, recipe.as_dict(), facts)
        return load_bundle(folder), folder

    return make


@pytest.mark.parametrize(
    ("framing", "sections"),
    [
        (
            "sequences",
            {
                "model": {"learn_initial_state": True, "layer_norm": True, "input": "one_hot"},
                "generation": {"temperature": 0.9},
            },
        ),
        (
            "stream",
            {
                "model": {"kind": "mingru", "residual": True},
                "encoding": {"kind": "words"},
                "generation": {"prompt": "the"},
            },
        ),
    ],
    ids=["names", "words"],
)
def test_an_exported_model_writes_the_same_text_without_torch(
    onnxruntime, bundled, tmp_path, framing, sections
) -> None:
    bundle, _ = bundled(framing, **sections)
    assert export_onnx(bundle, tmp_path / "exported") < TOLERANCE
    ours = bundle.generate({"count": 1, "max_length": 60}, seed=11).items[0]
    code = "import sys; sys.modules['torch'] = sys.modules['components'] = None; sys.argv[1:] = ['11', '0', '60']\n"
    code += f"import runpy; runpy.run_path({str(tmp_path / 'exported' / 'generate.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ours}\n"
    about = json.loads((tmp_path / "exported" / "encoding.json").read_text(encoding="utf-8"))
    assert about["tokens"][: len(SPECIALS)] == list(SPECIALS)
    with pytest.raises(UserError, match="already exists"):
        export_onnx(bundle, tmp_path / "exported")


@pytest.mark.parametrize(
    "model",
    [{"kind": "mogrifier-lstm"}, {"kind": "slstm", "heads": 3}, {"kind": "mlstm", "heads": 3}],
    ids=["mogrifier-lstm", "slstm", "mlstm"],
)
def test_cells_of_torch_operations_are_the_same_step_and_text(
    onnxruntime, bundled, tmp_path, monkeypatch, capsys, model
) -> None:
    bundle, _ = bundled(model=model)
    if model["kind"] == "mlstm":  # with weights of three times the size it divides by nearly 0
        with torch.no_grad():
            for parameter in bundle.model.recurrent.parameters():
                parameter.div_(6)
    assert export_onnx(bundle, tmp_path / "exported") < 1e-5
    for seed in (1, 2, 3):
        ours = bundle.generate({"count": 1, "max_length": 40}, seed=seed).items[0]
        monkeypatch.setattr(sys, "argv", ["generate.py", str(seed), "0", "40"])
        runpy.run_path(str(tmp_path / "exported" / "generate.py"), run_name="__main__")
        assert capsys.readouterr().out == f"{ours}\n"


def test_logarithms_of_gates_stay_exact_where_they_are_far_from_zero(onnxruntime, tmp_path) -> None:
    class Logs(torch.nn.Module):
        """A step with logarithms of gates alone."""

        def initial_state(self, batch_size: int) -> dict[str, torch.Tensor]:
            return {"a": torch.zeros(batch_size, 7)}

        def step(self, ids_B1: torch.Tensor, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
            gate = torch.nn.functional.logsigmoid(state["a"])
            return gate, {"a": torch.logaddexp(gate, 2 * state["a"])}

    step = Step(Logs()).eval()
    onnx._write_graph(step, tmp_path / "logs.onnx")
    a = np.array([[-300.0, -40.0, -12.0, 0.0, 12.0, 40.0, 300.0]], dtype=np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "logs.onnx")
    answers = session.run(None, {"ids": np.zeros((1, 1), dtype=np.int64), "a": a})
    for one, other in zip(step(torch.zeros(1, 1, dtype=torch.int64), torch.from_numpy(a)), answers, strict=True):
        np.testing.assert_allclose(other, one.numpy(), rtol=1e-6, atol=2e-7)


def test_a_graph_that_computes_something_else_is_noticed(onnxruntime, bundled) -> None:
    bundle, _ = bundled()
    step = Step(bundle.model)

    class Wrong:
        def run(self, _: None, read: dict[str, np.ndarray]) -> list[np.ndarray]:
            states = [torch.from_numpy(read[name]) for name in step.names]
            with torch.inference_mode():
                logits, *after = step(torch.from_numpy(read["ids"]), *states)
            after[-1] = after[-1] + 1e-3
            return [value.numpy() for value in (logits, *after)]

    differs, rounding = difference(step, Wrong())
    assert differs > TOLERANCE
    assert rounding < TOLERANCE / 3


def test_rounding_is_told_from_a_wrong_graph(bundled) -> None:
    bundle, _ = bundled(model={"kind": "mlstm", "heads": 3})  # with large weights it divides by nearly 0
    step = Step(bundle.model)
    exact = copy.deepcopy(step).double()

    class Precise:
        def run(self, _: None, read: dict[str, np.ndarray]) -> list[np.ndarray]:
            states = [torch.from_numpy(read[name]).double() for name in step.names]
            with torch.inference_mode():
                return [value.numpy() for value in exact(torch.from_numpy(read["ids"]), *states)]

    differs, rounding = difference(step, Precise())
    assert differs > TOLERANCE
    assert differs == pytest.approx(rounding, rel=0.1)


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"encoding": {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "characters"}}}, None),
        ({"encoding": {"kind": "subwords", "merges": 20}}, "doesn't decode to its tokens joined together"),
    ],
    ids=["pairs", "subwords"],
)
def test_what_cannot_be_exported_is_refused_with_the_reason(bundled, tmp_path, sections, why) -> None:
    if why is None:
        bundle, _ = bundled()
        object.__setattr__(bundle.task, "settings", None)
        why = "only language models"
    else:
        bundle, _ = bundled(**sections)
    with pytest.raises(UserError, match=why) as caught:
        export_onnx(bundle, tmp_path / "exported")
    assert caught.value.hint == "export it with its code for MLflow instead: reprise export small"
    assert not (tmp_path / "exported").exists()


def test_a_folder_for_the_hub_holds_the_weights_and_a_card(bundled, tmp_path) -> None:
    from safetensors.torch import load_file

    bundle, folder = bundled()
    export_huggingface(folder, tmp_path / "hub")
    assert sorted(path.name for path in (tmp_path / "hub").iterdir()) == [
        "README.md",
        "config.json",
        "encoding.json",
        "model.safetensors",
    ]
    tensors = load_file(tmp_path / "hub" / "model.safetensors")
    for name, value in bundle.model.state_dict().items():
        assert torch.equal(tensors[name], value)
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "reprise",
        "tags": ["recurrent-neural-network", "lstm"],
        "pipeline_tag": "text-generation",
    }
    assert "| test/nats_per_char | 1.25 |" in text
    assert "val/nats_per_char" not in text
    assert bundle.weights_digest in text
    with pytest.raises(UserError, match="already exists"):
        export_huggingface(folder, tmp_path / "hub")
