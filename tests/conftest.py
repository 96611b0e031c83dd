"""What every test shares: its own state folder, one CPU thread, no clock in the properties, a small dataset."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# before anything imports torch, Prefect or MLflow
os.environ["OMP_NUM_THREADS"] = "1"
for _name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "REPRISE_HOME", "REPRISE_MIRROR"):
    os.environ.pop(_name, None)

# MLflow and Prefect commit to their databases many times a second: in memory, where it has room, that waits for no disk
_memory = Path("/dev/shm")
if _memory.is_dir() and shutil.disk_usage(_memory).free > 4 << 30 and not os.statvfs(_memory).f_flag & os.ST_NOEXEC:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_memory))

# what some tests share with others stands in test files too
sys.path[1:1] = [str(folder) for folder in Path(__file__).parent.rglob("*/") if folder.name != "__pycache__"]

# a shell's background jobs ignore Ctrl-C, and so would every process that is started here
signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings

# these machines are shared: a deadline would measure the neighbours
settings.register_profile("house", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("quick", settings.get_profile("house"), max_examples=10)
settings.load_profile("house")

pytest_plugins = ["suite", "tracking_fixtures", "chromium"]

NAMES = [
    f"{a}{b}{c}" for a in ("ma", "li", "jo", "an", "ka") for b in ("ri", "na", "el", "to") for c in ("a", "na", "s")
]
TEXT = "the cat sat on the mat; the dog sat on the log. " * 60
LINES = "".join(f"line {number} of the text, with words.\n" for number in range(200))


@pytest.fixture
def small_recipe(tmp_path: Path) -> Callable[..., object]:
    """A recipe over a small data set of our own making: sequences (names) or a stream (text)."""
    from components.recipe import Recipe

    def make(framing: str = "sequences", **sections: dict) -> Recipe:
        path = tmp_path / f"{framing}.txt"
        path.write_text("\n".join(NAMES) if framing == "sequences" else TEXT, encoding="utf-8")
        values = {
            "seed": 5,
            "data": {"path": str(path), "reader": "lines" if framing == "sequences" else "text"},
            "encoding": {"kind": "characters"},
            "task": {"kind": "language_model"},
            "model": {"kind": "lstm", "hidden_size": 12, "num_layers": 2, "dropout": 0.3},
            "training": {"steps": 24, "batch_size": 8, "tbptt_length": 6, "learning_rate": 1e-2},
            "evaluation": {"every": 8},
            "generation": {"max_length": 60, "prompt": "" if framing == "sequences" else "the "},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section}
        return Recipe.from_dict("small", values)

    return make


@pytest.fixture
def small_store(tmp_path: Path) -> Callable[..., object]:
    """The ingested dataset of a small recipe."""
    from components.datasets.ingest import ingest
    from components.datasets.store import Store

    def make(recipe) -> Store:
        ref = ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
        return Store.open(ref.path)

    return make


@pytest.fixture
def ingest_text(tmp_path: Path) -> Callable[..., object]:
    """Ingest a text of our own, by default as characters; None leaves the file as it is. Gives the store's ref."""
    from components.datasets.ingest import ingest
    from components.datasets.store import DatasetRef

    def make(
        text: str | None = LINES, data: dict | None = None, encoding: dict | None = None, *, seed: int = 0, **options
    ) -> DatasetRef:
        path = tmp_path / "some text.txt"
        if text is not None:
            path.write_bytes(text.encode())
        data, encoding = {"path": str(path), **(data or {})}, encoding or {"kind": "characters"}
        return ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=seed, **options)

    return make


@pytest.fixture(scope="session")
def compiler() -> None:
    """Skips where the native kernels and the decoding engine can't be compiled."""
    from components.errors import UserError
    from components.kernels.native import build

    try:
        build.load_native()
    except UserError:
        pytest.skip("needs a C++ compiler: apt-get install g++")


class Silent:
    """A listener that only remembers."""

    def __init__(self) -> None:
        self.points: list[tuple[dict[str, float], int]] = []
        self.evaluations: list[tuple[int, dict[str, float]]] = []

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.points.append((values, step))

    def progress(self, step: int, steps: int, values: dict[str, float]) -> None:
        pass

    def evaluated(self, values: dict[str, float], step: int, improved: bool) -> None:
        self.evaluations.append((step, values))


@pytest.fixture
def silent() -> Silent:
    return Silent()


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server of the tests' own, one in each worker. Tests ask for `home`."""
    from flows import server as server_module
    from flows.server import QUIET, Server

    folder = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "PORT", 0)  # never the one of the person who runs the tests
        patch.setattr(server_module, "START_SECONDS", 600.0)  # for a busy machine
        # a schedule is planned within a second, and a busy machine isn't "Service Unavailable"
        ours = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1", "PREFECT_SERVER_DATABASE_TIMEOUT": "120"}
        for name, value in {**QUIET, **ours, "PREFECT_HOME": str(folder)}.items():
            patch.setenv(name, value)
        patch.setenv("PREFECT_API_URL", "to be put back")
        del os.environ["PREFECT_API_URL"]
        server = Server(folder)
        server.begin()
        answers, address = server.wait(), os.environ.get("PREFECT_API_URL")
    try:
        assert answers, server.log.read_text()
        yield address
    finally:
        stopped = server.stop()
    assert stopped


@pytest.fixture(scope="module")
def home(prefect: str, database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state folder of the module's own, beside a Prefect server."""
    from flows.server import QUIET

    folder = tmp_path_factory.mktemp("home")
    shutil.copy(database, folder / "mlflow.db")
    values = {"REPRISE_HOME": str(folder), "PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": prefect}
    values |= {"MLFLOW_DISABLE_TELEMETRY": "true", "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUIET, **values}.items():
            patch.setenv(name, value)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        _read_settings_again()
        yield folder
        if "prefect.logging" in sys.modules:  # what it hasn't sent it would try to send at this process's end
            from prefect.logging.handlers import APILogHandler

            APILogHandler().flush()
    _read_settings_again()


def _read_settings_again() -> None:
    """Prefect read its settings from the environment when it was imported."""
    if "prefect.context" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
