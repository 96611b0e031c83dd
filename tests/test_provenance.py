"""Digests depend on content alone, and the code version never borrows somebody else's commit."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import provenance

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "code.py").write_text("x = 1\n")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-q", "-m", "first"],
    ):
        subprocess.run(["git", "-C", str(root), *command], check=True, capture_output=True)
    return root


def test_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(data)
    assert provenance.digest_file(tmp_path / "f") == provenance.digest_bytes(data) == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
@given(st.dictionaries(st.text(), JSON, min_size=2, max_size=5))
def test_digest_of_json_ignores_the_order_of_keys(value: dict) -> None:
    assert provenance.digest_json(value) == provenance.digest_json(dict(reversed(value.items())))


@pytest.mark.slow
@given(st.lists(JSON, max_size=4), JSON)
def test_digest_of_json_sees_every_element(value: list, more: object) -> None:
    assert provenance.digest_json(value) != provenance.digest_json([*value, more])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_digest_of_json_refuses_what_json_cannot_say(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        provenance.digest_json({"loss": value})
    with pytest.raises(TypeError):
        provenance.digest_json({"path": Path("x")})


def test_digest_of_a_tree_is_the_same_wherever_it_lies_and_in_any_order(tmp_path: Path) -> None:
    digests = []
    for place in ("here", "there/deeper"):
        root = tmp_path / place
        (root / "sub").mkdir(parents=True)
        (root / "sub" / "a.txt").write_text("a")
        (root / "b.txt").write_text("b")
        digests.append(provenance.digest_tree([root, root / "b.txt"]))
        digests.append(provenance.digest_tree([root / "b.txt", root]))
    assert len(set(digests)) == 1


def test_digest_of_a_tree_sees_contents_names_and_new_files_but_not_caches(tmp_path: Path) -> None:
    root = tmp_path / "package"
    root.mkdir()
    (root / "a.py").write_text("1")
    seen = [provenance.digest_tree([root])]
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "a.pyc").write_text("cache")
    assert provenance.digest_tree([root]) == seen[0]
    (root / "a.py").write_text("2")
    seen.append(provenance.digest_tree([root]))
    (root / "b.py").write_text("2")
    seen.append(provenance.digest_tree([root]))
    (root / "a.py").rename(root / "c.py")
    seen.append(provenance.digest_tree([root]))
    assert len(set(seen)) == 4


def test_digest_of_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        provenance.digest_tree([tmp_path / "nowhere"])


def test_code_version_of_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    head = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    found = provenance.code_version(checkout)
    assert (found["commit"], found["dirty"]) == (head.stdout.strip(), False)


@pytest.mark.parametrize("name", ["code.py", "untracked.py"])
def test_code_version_is_dirty_after_an_edit_or_with_a_new_file(checkout: Path, name: str) -> None:
    (checkout / name).write_text("x = 2\n")
    assert provenance.code_version(checkout)["dirty"] is True


def test_code_version_follows_the_folder_even_inside_a_git_hook(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = provenance.code_version(checkout)["commit"]
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere.git"))
    assert provenance.code_version(checkout)["commit"] == expected != ""


def test_a_folder_inside_a_foreign_checkout_has_no_commit(checkout: Path) -> None:
    inside = checkout / "site-packages"
    inside.mkdir()
    assert provenance.code_version(inside)["commit"] == ""


def test_without_git_there_is_no_commit_and_no_failure(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = provenance.code_version(checkout)
    assert (found["commit"], found["dirty"]) == ("", False)


def test_libraries_and_machine_are_named() -> None:
    libraries, machine = provenance.package_versions(), provenance.machine()
    assert {"torch", "numpy", "mlflow"} <= libraries.keys()
    assert all(number[0].isdigit() for number in libraries.values())
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 2**20
    assert machine["python"].startswith("3.")
