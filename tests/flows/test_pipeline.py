"""End to end: real Prefect flows, a real sqlite MLflow, a small corpus."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from conftest import NAMES, TEXT
from small_recipes import client

from components.errors import UserError
from components.render.engrave import can_engrave
from components.render.record import read_record

if TYPE_CHECKING:
    from flows.pipeline import Outcome

SECTIONS = {
    "seed": 5,
    "encoding": {"kind": "characters"},
    "task": {"kind": "language_model"},
    "model": {"kind": "lstm", "hidden_size": 16, "dropout": 0.2},
    "training": {"steps": 30, "batch_size": 8, "tbptt_length": 10, "learning_rate": 1e-2, "checkpoint_seconds": 0.0},
    "evaluation": {"every": 10},
}


@pytest.fixture(scope="module")
def recipe(home: Path):
    """Write a recipe file over a small text or list of names; gives its path."""

    def write(name: str, framing: str = "sequences", **sections: dict) -> str:
        data = home / f"{framing}.txt"
        data.write_text("\n".join(NAMES) if framing == "sequences" else TEXT, encoding="utf-8")
        reader = "lines" if framing == "sequences" else "text"
        values = {**SECTIONS, "data": {"path": str(data), "reader": reader, "split": [0.6, 0.2, 0.2]}}
        values["generation"] = {"max_length": 40, "count": 3, "prompt": "" if framing == "sequences" else "the "}
        for section, changes in sections.items():
            values[section] = {**values.get(section, {}), **changes} if isinstance(changes, dict) else changes
        path = home / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


@pytest.fixture(scope="module")
def trained(recipe) -> Outcome:
    """A whole run of names, for the tests that need any: the model is `names`."""
    from flows.pipeline import pipeline

    return pipeline(recipe("names"), ["training.learning_rate=0.02"], "cpu", 1)


@pytest.mark.parametrize("framing", ["sequences", "stream"])
def test_from_a_recipe_to_a_registered_model_and_what_it_writes(home, recipe, trained, framing) -> None:
    from flows.pipeline import pipeline

    name, outcome = "names", trained
    if framing == "stream":
        name, outcome = "text", pipeline(recipe("text", framing), ["training.learning_rate=0.02"], "cpu", 1)
    assert outcome.model.alias == "champion"
    assert str(outcome.model) == f"{name} v1"
    run = client().get_run(outcome.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "lstm-h16-lr0.02-s5"
    assert run.data.params["training.learning_rate"] == "0.02"
    assert run.data.params["model.num_layers"] == "1", "defaults are recorded too"
    assert run.data.metrics["test/nats_per_char"] == pytest.approx(outcome.metrics["test/nats_per_char"])
    assert {d.dataset.name for d in run.inputs.dataset_inputs}
    assert run.data.tags["data.digest"]
    assert run.data.tags["prefect.flow_run_id"]
    assert "| test/nats_per_char |" in run.data.tags["mlflow.note.content"]
    history = client().get_metric_history(outcome.run_id, "val/nats_per_char")
    assert [point.step for point in history] == [10, 20, 30]
    kept = {f.path for folder in ("figures", "samples", "") for f in client().list_artifacts(outcome.run_id, folder)}
    assert {"figures/learning_curve.png", "figures/surprise.png", "recipe.yaml"} <= kept
    assert f"samples/{name}.txt" in kept
    assert "samples/temperatures.json" in kept
    assert not list(home.rglob("*.pkl"))


def test_the_recorded_recipe_gives_the_same_run_again(home, recipe, trained) -> None:
    from components.recipe import read_recipe

    local = client().download_artifacts(trained.run_id, "recipe.yaml", str(home))
    wanted = read_recipe(Path(recipe("names")), ["training.learning_rate=0.02"])
    assert read_recipe(Path(local)).digest == wanted.digest


def test_a_better_model_becomes_champion_and_a_worse_one_does_not(home, recipe) -> None:
    from flows.pipeline import pipeline

    path = recipe("contest")
    roles = [
        pipeline(path, [f"training.steps={steps}", f"seed={seed}"], "cpu", 1).model.alias
        for seed, steps in ((1, 40), (2, 80), (3, 5))
    ]
    assert roles == ["champion", "champion", "challenger"]
    from components.runs.places import places
    from components.tracking.mlflow_backend import MlflowStore

    store = MlflowStore(places().settings)
    assert store.find("contest", "champion").version == "2"
    assert store.find("contest", "challenger").version == "3"
    with pytest.raises(UserError, match="contest"):
        store.find("contst", "champion")


def test_accept_refuses_registration_and_the_run_says_so(home, recipe) -> None:
    from components.runs.generate import open_model
    from flows.pipeline import pipeline

    outcome = pipeline(recipe("refused", accept={"test/nats_per_char": "< 0.001"}), [], "cpu", 1)
    assert outcome.model is None
    assert outcome.files, "its samples are still written, to be looked at"
    run = client().get_run(outcome.run_id)
    assert "accept requires < 0.001" in run.data.tags["registered"]
    with pytest.raises(UserError, match="refused"):
        open_model("refused@champion")
    assert open_model(f"run:{outcome.run_id}").version == ""


def test_same_seed_same_output_and_any_file_can_be_made_again(home, trained, tmp_path) -> None:
    from components.runs.generate import generate_files, replay
    from flows.use import generate_flow

    options = {"count": 4, "temperature": 0.9, "top_p": 0.95, "prompt": "ma"}
    one, two, other = (
        Path(generate_files("names@champion", options, seed, str(tmp_path / out))[0]).read_bytes()
        for seed, out in ((7, "a"), (7, "b"), (8, "c"))
    )
    assert one == two
    assert one != other
    (as_a_flow,) = generate_flow("names@champion", options, 7, str(tmp_path / "d"))
    assert Path(as_a_flow).read_bytes() == one
    record = read_record(tmp_path / "a" / "names.txt")
    assert (record["model"], record["version"], record["seed"]) == ("names", "1", 7)
    paths, same = replay(tmp_path / "a" / "names.txt", tmp_path / "d")
    assert same
    assert paths[0].read_bytes() == one
    changed = tmp_path / "changed.txt"
    changed.write_bytes(one.replace(b"ma", b"mu", 1))
    assert replay(changed, tmp_path / "e")[1] is False


def test_a_tampered_record_and_wrong_settings_are_refused(home, trained, tmp_path) -> None:
    from components.render.record import with_record
    from components.runs.generate import generate_files, replay

    good = read_record(Path(generate_files("names", {"count": 1}, 0, str(tmp_path / "good"))[0]))
    for change, said in (
        ({"weights_sha256": "0" * 64}, "other weights"),
        ({"version": "99"}, "99"),
        ({"model": "../../etc"}, "unknown model"),
        ({"seed": "x"}, "seed: must be a whole number"),
        ({"settings": 5}, "wasn't written by Reprise"),
        ({"settings": {"max_length": 10**9}}, "max_length"),
        ({"settings": {"tempreture": 1.0}}, "did you mean 'temperature'"),
    ):
        file = tmp_path / "bad.txt"
        file.write_text(with_record("text", good | change))
        with pytest.raises(UserError, match=said):
            replay(file, tmp_path / "out")
    with pytest.raises(UserError, match="seed: must be a whole number"):
        generate_files("names", {}, -1, str(tmp_path))


def test_an_unknown_character_in_a_prompt_is_unk_with_a_warning(home, trained, tmp_path, capsys) -> None:
    from components.runs.generate import generate_files

    files = generate_files("names", {"prompt": "m€", "count": 1}, 0, str(tmp_path))
    assert "1 of 2 chars of the prompt are unknown to the model (read as <UNK>)" in capsys.readouterr().out
    assert Path(files[0]).read_text(encoding="utf-8").startswith("m\N{REPLACEMENT CHARACTER}")


def test_a_retry_goes_on_from_the_checkpoint(home, recipe, trained, monkeypatch) -> None:
    from components.models.weights import read_tensors
    from components.runs.places import places
    from components.training import session
    from flows.pipeline import pipeline

    steps = []

    class Flaky(session.Trainer):
        def _update(self, batches):
            steps.append(self.at.global_step)
            if len(steps) == 18:
                raise OSError("the disk was busy")
            return super()._update(batches)

    monkeypatch.setattr(session, "Trainer", Flaky)
    outcome = pipeline(recipe("retried"), ["training.learning_rate=0.02"], "cpu", 1)
    assert len(steps) == 31, "one update was done again, none lost"
    tensors = [
        read_tensors(places().run_folder(run_id) / "checkpoint.safetensors")[0]
        for run_id in (trained.run_id, outcome.run_id)
    ]
    assert all((tensors[0][name] == tensors[1][name]).all() for name in tensors[0])


def test_a_run_that_was_cut_off_is_resumed_to_the_end(home, recipe, monkeypatch) -> None:
    from components.runs.places import places
    from components.runs.record import find_run
    from components.training import session
    from flows.pipeline import pipeline, resume

    class Interrupted(session.Trainer):
        def _update(self, batches):
            if self.at.global_step == 12:
                raise KeyboardInterrupt
            return super()._update(batches)

    path = recipe("cut-off")
    with monkeypatch.context() as patch:
        patch.setattr(session, "Trainer", Interrupted)
        with pytest.raises(BaseException):  # noqa: B017 - Prefect may wrap the interruption
            pipeline(path, [], "cpu", 1)
    run_id = find_run("cut-off", places()).ref.run_id
    assert client().get_run(run_id).info.status in ("KILLED", "FAILED")
    outcome = resume(run_id)
    assert client().get_run(run_id).info.status == "FINISHED"
    assert outcome.model.alias == "champion"
    steps = [point.step for point in client().get_metric_history(run_id, "val/nats_per_char")]
    assert steps == [10, 20, 30], "no point of the curve is missing or doubled"


def test_ingestion_is_reused_when_nothing_changed(home, recipe, capsys) -> None:
    from flows.pipeline import ingest_flow

    path = recipe("ingested")
    ingest_flow(path, ["encoding.lowercase=true"])
    assert "reused" not in capsys.readouterr().out
    first = ingest_flow(path, ["encoding.lowercase=true"])
    assert "reused" in capsys.readouterr().out
    assert first.reused
    (home / "sequences.txt").write_text("\n".join(NAMES[::-1]) + "\nnew", encoding="utf-8")
    assert not ingest_flow(path, ["encoding.lowercase=true"]).reused, "other content is other data"


def test_chorales_from_the_corpus_to_files_one_can_hear_and_read(home, tmp_path) -> None:
    from components.runs.generate import replay
    from components.runs.places import RECIPES
    from flows.pipeline import pipeline

    shutil.copy(RECIPES / "chorales.yaml", tmp_path / "small-chorales.yaml")
    small = ["data.limit=14", "model.hidden_size=24", "training.steps=12", "evaluation.every=6", "accept={}"]
    small += ["generation.count=1", "generation.max_length=300"]
    outcome = pipeline(str(tmp_path / "small-chorales.yaml"), small, "cpu", 1)
    assert outcome.metrics["test/nats_per_frame"] > outcome.metrics["test/nats_per_token"]
    suffixes = {Path(path).suffix for path in outcome.files}
    assert suffixes == {".mid", ".musicxml", ".wav", ".png", ".html"} | ({".svg"} if can_engrave() else set())
    first = Path(outcome.files[0])
    made_again, same = replay(first, tmp_path / "again")
    assert same
    again = {path.suffix: path for path in made_again}
    assert read_record(first)["model"] == "small-chorales"
    for path in map(Path, outcome.files):  # by the same record, so from any of them come all
        assert read_record(path) == read_record(first), path.suffix
        assert again[path.suffix].read_bytes() == path.read_bytes(), path.suffix


def test_a_model_loads_and_generates_through_mlflow_without_a_pickle(home, trained, monkeypatch) -> None:
    import mlflow
    import pandas as pd

    from components.runs.places import places

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # `mlflow.set_tracking_uri` would outlast this test
        monkeypatch.setenv(name, places().settings.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/names@champion")
    frame = pd.DataFrame({"prompt": ["ma"]})
    rows = [model.predict(frame, params={"count": 2, "seed": 3, "max_length": 10}) for _ in range(2)]
    assert rows[0].equals(rows[1])
    assert len(rows[0]) == 2
    assert json.loads(rows[0].to_json(orient="records"))[0]["text"].startswith("ma")
