"""Why a model answers as it does: contributions add up, every door tells the same, and what isn't known is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from task_pairs import PAIRS
from test_use import QUESTIONS

import reprise
from components.encodings.vocabulary import SPECIALS
from components.errors import UserError
from components.models.attribution import first_inputs, integrated_gradients
from components.registry import resolve
from components.render.marked import marked_text
from components.tasks.explanation import Explanation

pytest_plugins = ["serving_fixtures", "tracking_fixtures"]
EXPLAINED = [name for name in PAIRS if name.startswith(("classification", "ordinal", "regression", "tagging"))]
WRITTEN = ["translation", "translation, input feeding"]


def explained(name: str, best: int | None = None) -> tuple[Any, Any, Any, Explanation]:
    """A task of `task_pairs`, its untrained model, an input, and why the model answers as it does."""
    pair = PAIRS[name]
    task, model, _ = pair.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)  # so that the input matters
    item = [[1.5, -1.0], [0.25, 3.0]] if name.startswith("regression") else pair.items[0][0]
    return task, model.eval(), item, task.explain(model, item, best)


def test_contributions_of_a_linear_function_are_its_terms() -> None:
    weights_TI, x_TI = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([[1.0, 1.0], [2.0, -1.0]])
    found = integrated_gradients(lambda x_NTI: (x_NTI * weights_TI).sum(dim=(1, 2))[:, None] + 7, x_TI)
    assert found.values_OTI[0] == pytest.approx((weights_TI * x_TI).numpy())
    assert (found.at_input_O.item(), found.at_zero_O.item()) == (pytest.approx(4.0), pytest.approx(7.0))


def test_contributions_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="NaN or infinite"):
        integrated_gradients(lambda x_NTI: x_NTI.prod(dim=1), torch.tensor([[1e30], [1e30]]))


def test_contributions_of_a_product_are_shared() -> None:
    """x₁x₂ from (0, 0) to (3, 5): half of 15 each, by the symmetry axiom."""
    found = integrated_gradients(lambda x_NTI: x_NTI.prod(dim=1), torch.tensor([[3.0], [5.0]]))
    assert found.values_OTI.ravel() == pytest.approx([7.5, 7.5])


@pytest.mark.parametrize("name", EXPLAINED)
def test_contributions_add_up_to_the_difference_of_the_outputs(name) -> None:
    """Completeness (Sundararajan et al. 2017, proposition 1), for every cell, pooling and kind of input."""
    task, model, item, why = explained(name)
    (answer,) = task.predict(model, [item])
    assert why.totals
    for total in why.totals:
        change = total["at_input"] - total["at_baseline"]
        assert total["contributions"] == pytest.approx(change, abs=2e-3 * max(1.0, abs(change)))
    if "contribution" in why.positions[0]:
        whole = sum(row["contribution"] for row in why.positions)
        assert whole == pytest.approx(why.totals[0]["contributions"], abs=1e-6)
        assert whole != 0
    if name.startswith("regression"):
        assert why.totals[0]["at_input"] == pytest.approx(answer[0], abs=1e-5)
    elif name.startswith("tagging"):
        assert [row["tag"] for row in why.positions] == answer
        assert all(0 < row["probability"] <= 1 for row in why.positions)
        assert why.matrix.values.shape == (len(answer), len(answer))
    else:
        assert why.choices[0] == {**answer, "probability": pytest.approx(answer["probability"])}
        assert sum(choice["probability"] for choice in why.choices) == pytest.approx(1.0)
        assert why.totals[0]["at_input"] == pytest.approx(np.log(answer["probability"]), abs=1e-5)
        assert len(explained(name, best=1)[3].choices) == 1


def test_a_step_that_the_model_does_not_hear_contributes_nothing() -> None:
    """And one that decides contributes all: the embedding of every other token is zero."""
    task, model, item, _ = explained("classification, mean")
    ids = task.encoding.input.encode(item)
    with torch.no_grad():
        model.embedding.weight[torch.from_numpy(ids[:-1])] = 0.0
    why = task.explain(model, item)
    silent = [row["contribution"] for row in why.positions[:-1]]
    assert silent == [0.0] * (len(ids) - 1)
    assert why.positions[-1]["contribution"] != 0


@pytest.mark.parametrize(
    ("read", "text", "tokens"),
    [
        ({"kind": "bag", "encoding": {"kind": "characters"}}, "anna", ["a", "n"]),
        ({"kind": "bag", "encoding": {"kind": "characters"}}, "", []),
        ({"kind": "tokens", "stem": 2, "lowercase": True}, "Warm  COLD!", ["Warm", "COLD", "!"]),
        ({"kind": "characters", "lowercase": True}, "İa", None),  # one letter that is two in lower case
        ({"kind": "bases"}, "ACGN", ["A", "C", "G", "N"]),
        ({"kind": "whitespace"}, "a  b\nc", ["a", "b", "<eos>", "c"]),
    ],
)
def test_tokens_are_told_as_they_are_written(read, text, tokens) -> None:
    encoding = resolve("encoding", "pair")(input=read, target={"kind": "labels"})
    items = [("anna", ["x"]), ("warm cold !", ["y"])]
    encoding.fit([("ACGT", ["x"]), ("AANT", ["y"])] if read["kind"] == "bases" else items)
    task = resolve("task", "classification")(encoding, "sequences")
    torch.manual_seed(0)
    model = task.build_model({"kind": "gru", "hidden_size": 8}).eval()
    why = task.explain(model, text)
    if tokens is not None:
        assert [row["token"] for row in why.positions] == tokens
    if read["kind"] == "bag" and tokens:
        assert [row["count"] for row in why.positions] == [2, 2]
    (total,) = why.totals
    assert sum(row["contribution"] for row in why.positions) == pytest.approx(total["contributions"], abs=1e-9)
    assert total["contributions"] == pytest.approx(total["at_input"] - total["at_baseline"], abs=1e-4)


def test_what_the_first_layer_reads_gives_the_same_answer() -> None:
    for name in EXPLAINED:
        task, model, item, _ = explained(name)
        _, inputs, lengths_B = task.alone(model, item)
        lengths = torch.from_numpy(lengths_B)
        with torch.no_grad():
            assert torch.allclose(model(first_inputs(model, inputs), lengths), model(inputs, lengths), atol=1e-6)


def test_the_probabilities_of_tags_are_those_of_the_chain() -> None:
    """Marginals of the CRF, by going through all labels of a sequence."""
    task, model, item, why = explained("tagging, CRF, spelled")
    _, inputs, lengths_B = task.alone(model, item)
    with torch.no_grad():
        scores = model(inputs, torch.from_numpy(lengths_B))[0].double().numpy()
    T, Y = len(scores), scores.shape[-1]
    paths = np.array(np.meshgrid(*[np.arange(Y)] * T, indexing="ij")).reshape(T, -1).T
    weight = np.exp([sum(scores[t, path[t - 1] if t else 0, path[t]] for t in range(T)) for path in paths])
    labels = task.labels
    for t, row in enumerate(why.positions):
        share = weight[paths[:, t] == labels.index(row["tag"])].sum() / weight.sum()
        assert row["probability"] == pytest.approx(share, rel=1e-4)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_translation_is_explained_by_what_the_beam_finished_and_by_attention(name) -> None:
    task, model, item, why = explained(name)
    assert why.choices[0]["text"] == task.predict(model, [item])[0]
    scores = [choice["score"] for choice in why.choices]
    assert scores == sorted(scores, reverse=True)
    assert 1 < len(scores) <= task.beam_size
    read = task.encoding.input.encode(item)
    assert why.matrix.values.shape == (len(why.positions), len(read))
    assert why.matrix.values.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    whole = sum(row["log_probability"] for row in why.positions)
    # the beam leaves out tokens that are never written, forcing doesn't
    assert whole == pytest.approx(why.choices[0]["log_probability"], abs=1e-3)
    assert len(explained(name, best=2)[3].choices) == 2
    with pytest.raises(UserError, match=r"9 choices; the model's beam search gives at most 5 \(task.beam_size\)"):
        task.explain(model, item, 9)


def test_speech_is_explained_by_when_it_is_said() -> None:
    task, model, item, why = explained("transcription")
    seconds = len(item[0]) / item[1]
    text = "".join(row["token"] for row in why.positions)
    assert text == why.choices[0]["text"] == task.predict(model, [item])[0]
    for row, after in zip(why.positions, why.positions[1:], strict=False):
        assert row["start_seconds"] < row["end_seconds"] <= after["start_seconds"]
    assert 0 <= why.positions[0]["start_seconds"] < why.positions[-1]["end_seconds"] <= seconds + 0.03
    assert "".join(row["word"] for row in why.words) == text.replace(" ", "")
    assert why.matrix.values.shape[1] >= why.positions[-1]["last_frame"]


def test_a_text_with_tokens_is_marked_as_it_is_written() -> None:
    html = marked_text("A <b> day!", [("A", 0.5), ("<b>", -1.0), (" day", 0.0)])
    assert html.endswith("!")
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert 'title="-1"' in html
    assert marked_text("a  b", [("<eos>", 1.0)]) == marked_text("", [("<eos>", 1.0)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Operation with range is deprecated", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_door_explains_alike(here, http, name, tmp_path, monkeypatch) -> None:
    from components.runs import explain, predict
    from components.runs.places import Places
    from components.runs.predict import Request

    monkeypatch.setattr(predict, "places", lambda: Places(here.settings))
    given, json_input, file, content = QUESTIONS[name]
    model = reprise.load(name)
    (wanted,) = model.explain([given])
    assert wanted.answer == model.predict([given])[0]
    told = json.loads(json.dumps(wanted.as_dict()))

    answer = http.post("/explain", json={"model": name, "inputs": [json_input]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["explanations"] == [told]

    if isinstance(content, bytes):
        (tmp_path / file).write_bytes(content)
    else:
        np.save(tmp_path / file, content)
    paths = explain.explain(Request(name, file=str(tmp_path / file)), out=str(tmp_path / "out"))
    files = {Path(path).name for path in paths}
    assert {"explanation.json", "positions.csv", "1.png"} <= files
    assert ("explanation.html" in files) == (name == "moods")
    assert ("choices.csv" in files) == bool(wanted.choices)
    (stored,) = json.loads((tmp_path / "out" / "explanation.json").read_text(encoding="utf-8"))
    assert stored.pop("input")
    if name == "people":  # a text file's words, not a text
        stored["answer"] = told["answer"]
    assert stored == told
    with (tmp_path / "out" / "positions.csv").open(encoding="utf-8", newline="") as table:
        assert len(list(csv.DictReader(table))) == len(wanted.positions)

    (kept,) = model.states([given])
    assert kept["layer_1"].shape[0] == (len(kept["tokens"]) if "tokens" in kept else len(kept["layer_1"]))
    (path,) = explain.states(Request(name, file=str(tmp_path / file)), str(tmp_path / "states.npz"))
    with np.load(path) as arrays:
        assert {key.partition(".")[2] for key in arrays} == set(kept)
        assert np.allclose(arrays["1.layer_1"], kept["layer_1"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Operation with range is deprecated", "ignore::DeprecationWarning")
def test_what_has_no_explanation_is_refused(here, http, tmp_path) -> None:
    from components.runs import explain
    from components.runs.predict import Request

    tales, loads, moods = (reprise.load(name) for name in ("tales", "loads", "moods"))
    with pytest.raises(UserError, match="tales: predictions of the task language_model can't be explained") as caught:
        tales.explain(["the cat"])
    assert caught.value.hint == "reprise score tales"
    with pytest.raises(UserError, match="loads: predictions of the task forecast can't be explained"):
        loads.explain([{"start": "2024-01-01", "values": [1.0, 2.0]}])
    with pytest.raises(UserError, match=r"inputs\[1\].*words; 1 to 2,000 can be explained"):
        moods.explain(["good", "bad " * 2001])
    with pytest.raises(UserError, match="101 inputs; at most 100 can be explained at once"):
        moods.explain(["good"] * 101)
    with pytest.raises(UserError, match=r"best.*1 or more"):
        moods.explain(["good"], best=0)
    refused = http.post("/explain", json={"model": "tales", "inputs": ["the"]})
    assert refused.status_code == 400
    assert http.post("/explain", json={"model": "moods", "inputs": ["good"], "best": 0}).status_code == 422
    with pytest.raises(UserError, match=r"doesn't end in \.npz"):
        explain.states(Request("moods", ["good"]), str(tmp_path / "states.csv"))
    with pytest.raises(UserError, match="100 can be explained"):
        reprise.load("marks").explain([["Ann"] * 101])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Operation with range is deprecated", "ignore::DeprecationWarning")
def test_states_are_what_the_layers_write(here, tmp_path) -> None:
    from components.runs import explain
    from components.runs.predict import Request

    moods, tales = reprise.load("moods"), reprise.load("tales")
    (kept,) = moods.states(["a good day"])
    model = moods._opened.bundle.model
    assert list(kept["tokens"]) == ["a", " good", " day"]
    ids = torch.from_numpy(moods._opened.bundle.encoding.input.encode("a good day"))
    with torch.no_grad():
        assert np.array_equal(kept["embedding"], model.embedding.weight[ids].numpy())
        logits = model.head(torch.from_numpy(kept["pooled"]))
        p = logits[len(SPECIALS) :].softmax(0).max().item()
    assert p == pytest.approx(moods.predict(["a good day"])[0]["probability"], abs=1e-6)

    (read,) = tales.states(["the cat"])
    assert {name: array.shape for name, array in read.items() if name != "tokens"} == {
        "embedding": (7, 24),
        "layer_1": (7, 24),
        "layer_2": (7, 24),
    }
    (shorter,) = tales.states(["the"])
    assert np.allclose(read["layer_2"][:3], shorter["layer_2"], atol=1e-6), "the past ignores the future"
    assert read["layer_1"].dtype == np.float32
    (path,) = explain.states(Request("tales", ["the cat", "a"]), str(tmp_path / "s.npz"))
    with np.load(path) as arrays:
        assert arrays["2.layer_2"].shape == (1, 24)
        assert list(arrays["1.tokens"]) == list("the cat")
    hours = {"start": "2024-01-01", "values": np.sin(np.arange(60) / 4).tolist()}
    assert reprise.load("loads").states([hours])[0]["layer_1"].shape == (24, 8)
    piano_rolls = reprise.Model(SimpleNamespace(bundle=_rolls(tmp_path)))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="models of this kind have no hidden states"):
        piano_rolls.states([None])


def _rolls(folder: Path) -> Any:
    from small_models import save

    from components.bundle import load_bundle

    save(folder / "rolls", "rolls")
    return load_bundle(folder / "rolls")
