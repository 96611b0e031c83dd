"""How the suite is run: markers set by themselves, the quick part, the last line, skips that needn't have been."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from suite import MARKERS, NEEDS, is_installed, summary

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[1]
APT, PIP = "apt-get install", "pip install"  # `.ci/run` installs what follows these words in the tests

SMALL = """
    import pytest

    @pytest.fixture
    def home(): ...

    @pytest.fixture
    def recipe(home): ...

    @pytest.fixture
    def browser():
        pytest.skip("needs a browser: apt-get install chromium")

    def test_short(): ...
    def test_page(browser): ...
    @pytest.mark.slow
    def test_training(): ...
    def test_run(recipe): ...
    @pytest.mark.skip("needs a processor with wings")
    def test_wings(): ...
    def test_last(): ...
"""


@pytest.mark.slow
def test_the_markers_come_with_the_fixtures_and_the_long_ones_first(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SMALL)
    order = ["test_run", "test_training", "test_page", "test_short", "test_wings", "test_last"]
    result = pytester.runpytest("-p", "suite", "--collect-only", "-q", "--strict-markers")
    assert [line.partition("::")[2] for line in result.outlines if "::" in line] == order
    result = pytester.runpytest("-p", "suite", "--quick", "-q")
    result.assert_outcomes(passed=2, skipped=1, deselected=3)
    for marker, number in (("server", 1), ("browser", 0)):
        pytester.runpytest("-p", "suite", "-m", marker).assert_outcomes(passed=number, skipped=1 - number, deselected=5)


@pytest.mark.slow
def test_the_last_line_says_what_to_install(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(SMALL)
    monkeypatch.delenv("REPRISE_CI_INSTALLED", raising=False)
    last = "2 skipped, for want of a browser (1), a processor with wings (1). To run them: apt-get install chromium"
    for more in ([], ["-n", "1"]):
        result = pytester.runpytest("-p", "suite", *more)
        assert (result.ret, result.outlines[-1]) == (pytest.ExitCode.OK, last)
    monkeypatch.setenv("REPRISE_CI_INSTALLED", "g++ chromium")
    result = pytester.runpytest("-p", "suite")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["skipped though it is installed: needs a browser: apt-get install chromium"])


def test_what_is_skipped_is_told_once_each_with_all_commands() -> None:
    reasons = [f"needs a cross compiler: {APT} one two", f"needs x: {PIP} pytest", "because"] * 2
    assert summary([*reasons, f"needs a compiler: {APT} two (none)"]) == (
        "7 skipped, for want of a cross compiler (2), x (2), because (2), a compiler (1). "
        f"To run them: {APT} one two; {PIP} pytest"
    )
    assert is_installed(f"needs x: {PIP} pytest")
    assert not is_installed(f"needs x: {PIP} no-such-distribution")
    assert not is_installed("needs a processor with wings")


def reasons(text: str) -> Iterator[str]:
    """What a source's skips say, as far as it is literal."""
    for node in ast.walk(ast.parse(text)):
        name = getattr(getattr(node, "func", None), "attr", "")
        if name not in ("skip", "skipif", "importorskip"):
            continue
        given = [word.value for word in node.keywords if word.arg == "reason"]
        given = given or (node.args[:1] if name == "skip" else [ast.Constant("")])
        for value in given:
            first = value.values[0] if isinstance(value, ast.JoinedStr) else value
            yield first.value if isinstance(first, ast.Constant) else ""


@pytest.mark.slow
def test_a_skip_says_what_it_needs() -> None:
    said = {path.name: list(reasons(path.read_text(encoding="utf-8"))) for path in ROOT.glob("tests/**/*.py")}
    assert sum(map(len, said.values())) >= 5
    assert not [(name, one) for name, ones in said.items() for one in ones if not NEEDS.match(one)]
    assert [*reasons("pytest.skip(f'no {x}')"), *reasons("pytest.importorskip('av')")] == ["no ", ""]


def test_quick_leaves_out_little(request: pytest.FixtureRequest) -> None:
    items = request.session.items
    quick = [item for item in items if not any(item.get_closest_marker(marker) for marker in MARKERS)]
    if len({item.path for item in items}) > 80:  # all of it, not the files that somebody chose
        assert len(quick) > 2500
