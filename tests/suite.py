"""How the suite is run: which tests `make quick` takes, in what order they start, and what a run couldn't test.

A skip's reason says `needs WHAT` or `needs WHAT: HOW`, HOW being the command that installs it, as in `needs a browser:
apt-get install chromium`. The last line of a run puts the commands together, and `.ci/run` installs from there.
"""

from __future__ import annotations

import gc
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from hypothesis import settings

BY_FIXTURE = {"home": "server", "store": "server", "browser": "browser"}  # whoever asks for the fixture gets the marker
MARKERS = {
    "server": "asks a server of ours: set by the fixtures `home` (Prefect) and `store` (models)",
    "slow": "takes more than 0.05 s: a training, other processes, waiting",
    "browser": "drives Chromium: set by the fixture `browser`",
}
QUICK_SECONDS = 3.0
NEEDS = re.compile(r"needs (?P<what>[^:]+)(: (?P<how>.+))?", re.DOTALL)
WHOLE = re.compile(rf"^pytestmark = .*pytest\.mark\.({'|'.join(MARKERS)})\b", re.MULTILINE)
INSTALL = re.compile(r"(apt-get|pip) install ([a-zA-Z0-9.+_ -]+)")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help=f"leave out what is marked {', '.join(MARKERS)}")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}; `make quick` leaves it out")
    if config.getoption("quick"):
        settings.load_profile("quick")  # fewer examples of each property


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """In a quick run a file that is marked as a whole isn't even imported: what it imports may take seconds."""
    quick = config.getoption("quick") and collection_path.suffix == ".py"
    return True if quick and WHOLE.search(collection_path.read_text(encoding="utf-8")) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What the tests import stays to the end: the garbage collector needn't look at it as it comes, nor ever again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, marker in BY_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
    # One worker starts with the first half, the other with the second and takes from the first's end when it is done:
    # so one Prefect server serves nearly all, and what is left at the end is short.
    items.sort(key=lambda item: ("prefect" not in getattr(item, "fixturenames", ()), _kind(item)))
    if config.getoption("quick"):
        chosen = [item for item in items if _kind(item) == len(MARKERS)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen


def _kind(item: pytest.Item) -> int:
    return next((number for number, marker in enumerate(MARKERS) if item.get_closest_marker(marker)), len(MARKERS))


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the terminal's own, so that ours are the last lines
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or hasattr(session.config, "workerinput"):
        return
    if session.config.getoption("quick"):
        for report in terminal.stats.get("passed", []):
            if report.when == "call" and report.duration > QUICK_SECONDS:
                terminal.write_line(f"took {report.duration:.1f} s, is it slow? {report.nodeid}")
    reasons = [skip_reason(report.longrepr) for report in terminal.stats.get("skipped", [])]
    if could := [reason for reason in dict.fromkeys(reasons) if is_installed(reason)]:
        terminal.write_line(f"skipped though it is installed: {'; '.join(could)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if reasons:
        terminal.write_line(summary(reasons))


def skip_reason(longrepr: object) -> str:
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr).removeprefix("Skipped: ")


def summary(reasons: Iterable[str]) -> str:
    """One line: what the skipped tests needed, how many each, and the commands that install what can be installed."""
    wants: Counter[str] = Counter()
    commands: dict[str, dict[str, None]] = defaultdict(dict)
    for reason in reasons:
        found = NEEDS.fullmatch(reason)
        wants[found["what"] if found else reason] += 1
        for tool, packages in _commands(reason):
            commands[tool] |= dict.fromkeys(packages)
    told = f"{wants.total()} skipped, for want of " + ", ".join(f"{what} ({n})" for what, n in wants.most_common())
    install = "; ".join(f"{tool} install {' '.join(packages)}" for tool, packages in commands.items())
    return f"{told}. To run them: {install}" if install else told


def is_installed(reason: str) -> bool:
    """Whether all that a skip asks for is there: Debian packages by what `.ci/run` says, Python's by their metadata."""
    there = os.environ.get("REPRISE_CI_INSTALLED", "").split()
    wanted = [(tool, name) for tool, names in _commands(reason) for name in names]
    return bool(wanted) and all(name in there if tool == "apt-get" else _has(name) for tool, name in wanted)


def _commands(reason: str) -> list[tuple[str, list[str]]]:
    return [(tool, packages.split()) for tool, packages in INSTALL.findall(reason)]


def _has(distribution: str) -> bool:
    try:
        return bool(version(distribution))
    except PackageNotFoundError:
        return False
