"""`reprise run --from FILE`, typed: weights of torch.nn in a whole run, and what of it MLflow keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_recipes import client, write_recipe

from components.errors import UserError
from components.provenance import digest_file


def test_a_run_starts_from_the_layers_in_a_file_and_says_so(home: Path, tmp_path: Path, capsys) -> None:
    from flows.cli import app

    file = tmp_path / "theirs.pt"
    module = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(8, 8), "fc": torch.nn.Linear(8, 30)})
    torch.save(module.state_dict(), file)
    recipe = write_recipe(home, "begun")
    app(["run", recipe, "--from", str(file), "--threads", "1"], result_action="return_value")
    said = capsys.readouterr().out
    assert "recurrent.layers.0 from lstm, layer 1" in said
    assert "not used: fc.weight" in said
    experiment = client().get_experiment_by_name("begun").experiment_id
    (run,) = client().search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert run.data.tags["start.sha256"] == digest_file(file)
    kept = json.loads(Path(client().download_artifacts(run.info.run_id, "start.json", str(tmp_path))).read_text())
    assert kept["taken"] == {"recurrent.layers.0": {"from": "lstm, layer 1", "shapes": [[32, 8], [32, 8]]}}

    torch.save(torch.nn.LSTM(8, 9).state_dict(), file)
    with pytest.raises(UserError, match=r"doesn't fit the recipe[\s\S]*--set model\.hidden_size=9"):
        app(["run", recipe, "--from", str(file), "--threads", "1"], result_action="return_value")
    assert len(client().search_runs([experiment])) == 1, "nothing was begun"
