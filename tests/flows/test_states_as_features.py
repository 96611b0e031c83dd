"""`model.letter_models`, typed: a tagger that reads with a registered language model, and needs it no longer then."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from small_recipes import client, write_recipe
from test_tagging import conll, recipe_for

from components.errors import UserError


def typed(*words: str) -> None:
    from flows.cli import app

    app([*words], result_action="return_value")


@pytest.mark.slow
def test_a_tagger_reads_with_a_registered_model_and_keeps_what_it_read(home: Path, tmp_path: Path, capsys) -> None:
    tagger = recipe_for(conll(home / "a.conll", sentences=40), letter_models=("small@latest",), letter_models_size=4)
    values = tagger.as_dict()
    values["training"] |= {"steps": 6}
    (home / "tags.yaml").write_text(yaml.safe_dump(values))
    recipe = str(home / "tags.yaml")
    for words in (["run", recipe], ["validate", recipe]):
        with pytest.raises(UserError, match="small"):
            typed(*words)
    typed("show", recipe)  # the models needn't exist yet
    typed("run", write_recipe(home), "--threads", "1")
    typed("run", recipe, "--threads", "1")
    assert "small@1: its states are features of each word" in capsys.readouterr().out
    (run,) = client().search_runs([client().get_experiment_by_name("tags").experiment_id])
    kept = yaml.safe_load(Path(client().download_artifacts(run.info.run_id, "recipe.yaml", str(tmp_path))).read_text())[
        "model"
    ]["letter_models"]
    assert [(one["model"], one["settings"]["hidden_size"], one["reversed"]) for one in kept] == [("small@1", 8, False)]

    client().delete_registered_model("small")
    typed("predict", "tags@latest", "--text", "Dr Ada saw Bo")
    with pytest.raises(UserError, match="small"):
        typed("run", recipe)
