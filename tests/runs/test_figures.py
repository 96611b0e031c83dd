"""`make figures`: a row for each recipe, what is finished isn't run again, what fails costs no other its row."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_recipes import write_recipe

from benchmarks import figures


def test_recipes_are_run_once_and_one_that_fails_is_told(home: Path, monkeypatch, capsys) -> None:
    from flows.pipeline import pipeline

    good, bad = write_recipe(home, "figured", accept={"test/perplexity": "> 1"}), write_recipe(home, "failing")
    ran = []

    def train(name: str, recipe, threads: int) -> None:
        ran.append((Path(name).stem, recipe.seed))
        if name == good:
            pipeline(name, [f"seed={recipe.seed}"], "cpu", threads)

    monkeypatch.setattr(figures, "train", train)
    with pytest.raises(SystemExit) as ended:
        figures.main([bad, good, "--seeds", "2", "--threads", "1"])
    assert ended.value.code == 1
    assert ran == [("failing", 0), ("failing", 1), ("figured", 0), ("figured", 1)]
    assert "| figured" in capsys.readouterr().out
    lines = (home / "figures.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:4]]
    assert rows[0][:3] == ["failing", "failed", ""]
    name, primary, test, val, baseline, accepted, *_ = rows[1]
    assert (name, primary) == ("figured", "nats_per_char")
    assert accepted.startswith("perplexity ")
    assert "(2 seeds: " in test
    assert float(val) > 0
    assert baseline.startswith("unigram")

    with pytest.raises(SystemExit) as ended:
        figures.main([good, "--seeds", "2"])
    assert ended.value.code == 0
    assert len(ran) == 4, "what is finished with the same settings isn't run again"
