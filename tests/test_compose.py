"""docs/compose.yaml, read as Docker Compose reads it: what it starts and sets is known to what it starts."""

from __future__ import annotations

import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from flows.cli import app

ROOT = Path(__file__).resolve().parents[1]
FILE, EXAMPLE = ROOT / "docs" / "compose.yaml", ROOT / "docs" / "compose.env"
IMAGES = {  # what the images of others read
    "postgres": {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"},
    "versity/versitygw": {"ROOT_ACCESS_KEY_ID", "ROOT_SECRET_ACCESS_KEY", "VGW_HEALTH"},
}
OURS = {"REPRISE_HOME", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}
HELD_BACK = re.compile(r"\$\{(\w+):\?[^}]+\}")  # a variable that has to be chosen


def wrong(text: str) -> list[str]:
    """What Compose would refuse, what a service doesn't know, and what would be open to others or known to them."""
    file = yaml.safe_load(text)
    services, found = file["services"], []
    for name, service in services.items():
        words = service.get("command", [])
        words = shlex.split(words) if isinstance(words, str) else words
        found += [f"{name}: {problem}" for problem in wrong_command(words)]
        image, _, version = service["image"].partition(":")
        known = IMAGES.get(image) or OURS | settings()
        found += [f"{name}: unknown variable {each}" for each in service["environment"].keys() - known]
        if version in ("", "latest"):
            found.append(f"{name}: no version of {image}")
        for variable, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|CONNECTION|STORE_URI", variable) and not HELD_BACK.search(value):
                found.append(f"{name}: the value of {variable} is in the file")
        for other, how in service.get("depends_on", {}).items():
            there = services.get(other, {})
            waits = {"service_healthy": "healthcheck" in there, "service_completed_successfully": "command" in there}
            if not waits[how["condition"]]:
                found.append(f"{name}: waits for {other} in vain")
        found += [f"{name}: open to others: {port}" for port in service.get("ports", []) if "127.0.0.1:" not in port]
        used = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        found += [f"{name}: no volume {volume}" for volume in used - file["volumes"].keys()]
    example = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))
    found += [f"{each} has no line of its own in {EXAMPLE.name}" for each in {*HELD_BACK.findall(text)} ^ {*example}]
    return found + [f"{EXAMPLE.name} gives {each} away" for each, value in example.items() if value]


def wrong_command(words: list[str]) -> list[str]:
    """What the program named first doesn't understand. None is run."""
    if words[:2] == ["sh", "-c"]:
        return [problem for part in words[2].split("&&") for problem in wrong_command(shlex.split(part))]
    if words[:1] == ["reprise"]:
        try:
            app.parse_args(words[1:], print_error=False, exit_on_error=False)
        except Exception as error:
            return [str(error)]
    if words[:2] == ["mlflow", "server"]:
        from click import ClickException, Context
        from mlflow.cli import server

        try:
            server.make_parser(Context(server)).parse_args(words[2:])
        except ClickException as error:
            return [error.format_message()]
    if words[:1] == ["prefect"]:  # as tests/flows/test_deploy.py runs them
        shown = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
        plain = [word for word in words if word not in ("--no-prompt", "--overwrite")]
        if plain[1:3] != ["server", "start"] and shlex.join(plain) not in shown:
            return [f"{shlex.join(words)} isn't shown in docs/operate.md"]
    return []


@cache
def settings() -> set[str]:
    """The variables that Prefect and MLflow read."""
    import mlflow.environment_variables as of_mlflow
    from mlflow.cli import server
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields

    options = {str(option.envvar) for option in server.params}
    return {*_get_settings_fields(Settings), *dir(of_mlflow), *options}


@pytest.mark.slow
def test_what_compose_starts_is_known_to_what_it_starts() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert wrong(text) == []
    for old, new, told in (
        ("reprise api --host", "reprise api --hots", "api: "),
        ("--default-artifact-root", "--default-artifacts-root", "mlflow: "),
        ("MLFLOW_BACKEND_STORE_URI:", "MLFLOW_BACKEND_URI:", "mlflow: unknown variable MLFLOW_BACKEND_URI"),
        ("--pool reprise", "--pol reprise", "worker: prefect worker start --pol reprise isn't shown"),
        ("${S3_PASSWORD:?choose one in .env}", "open-sesame", "s3: the value of ROOT_SECRET_ACCESS_KEY is in the file"),
        ("127.0.0.1:8000:8000", "8000:8000", "api: open to others"),
        ("gw:v1.8.0", "gw:latest", "s3: no version"),
        ("bucket:  # makes it, and ends", "buckets:", "worker: waits for bucket in vain"),
        ("  worker:\n  api:\n", "  api:\n", "worker: no volume worker"),
        ("${POSTGRES_PASSWORD:?", "${PASSWORD:?", "PASSWORD has no line"),
    ):
        assert text.count(old), old
        assert any(each.startswith(told) for each in wrong(text.replace(old, new))), (
            old,
            wrong(text.replace(old, new)),
        )


def test_its_image_holds_what_an_installation_needs() -> None:
    build = yaml.safe_load(FILE.read_text(encoding="utf-8"))["x-reprise"]["build"]
    assert (FILE.parent / build["context"]).resolve() == ROOT
    copied = [
        word
        for line in re.findall(r"^COPY (.*) \S+$", build["dockerfile_inline"], re.MULTILINE)
        for word in line.split()
    ]
    assert len(copied) >= 9
    assert [name for name in copied if not (ROOT / name).exists()] == []
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    roots = {name.partition(".")[0] for name in about["tool"]["setuptools"]["packages"]}
    folders = about["tool"]["setuptools"]["package-dir"].values()
    needed = {*roots, *folders, about["project"]["readme"], *about["project"]["license-files"]}
    assert needed <= {*copied}
