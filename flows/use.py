"""Generation and prediction as flows, for deployments; the command line doesn't use Prefect for them."""

from __future__ import annotations

from typing import Any

from prefect import flow

from components.runs.generate import generate_files
from components.runs.predict import Request, predict
from flows.parameters import Device
from flows.reaper import claimed, ended, failed


@flow(name="generate", flow_run_name="{model}", on_failure=[failed], on_crashed=[ended], on_cancellation=[ended])
def generate_flow(
    model: str,
    overrides: dict[str, Any] | None = None,
    seed: int = 0,
    out: str | None = None,
    melody: str | None = None,
    start: str | None = None,
    soundfont: str | None = None,
    keep: str | None = None,
    rewrite: str | None = None,
) -> list[str]:
    """Generate with a registered model: NAME, NAME@champion or NAME@VERSION; see `generate_files`."""
    with claimed():
        return generate_files(model, overrides, seed, out, melody, start, soundfont, keep, rewrite)


@flow(name="predict", flow_run_name="{model}", on_failure=[failed], on_crashed=[ended], on_cancellation=[ended])
def predict_flow(
    model: str,
    texts: list[str] | None = None,
    file: str | None = None,
    column: str | None = None,
    out: str | None = None,
    language_model: str | None = None,
    overrides: list[str] | None = None,
    device: Device = "cpu",
) -> list[str]:
    """Predict with a registered model for texts or the rows of a file; see `predict`."""
    with claimed():
        return predict(Request(model, texts or [], file, column, language_model, overrides or [], device), out)
