"""Files of weights are untrusted: no code in them is run, they are bounded, and other contents are refused."""

from __future__ import annotations

import contextlib
import importlib.util
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from test_foreign import saved, theirs
from torch import nn

from components.errors import UserError
from components.training import imported
from components.training.imported import read_weights


class Runs:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_no_code_of_a_file_is_run(tmp_path) -> None:
    torch.save({"rnn.weight_ih_l0": Runs(tmp_path / "ran")}, tmp_path / "evil.pt")
    torch.save(theirs(), tmp_path / "whole.pt")
    for name in ("evil.pt", "whole.pt"):
        with pytest.raises(UserError, match="objects other than tensors") as caught:
            read_weights(str(tmp_path / name))
        assert "model.state_dict()" in caught.value.hint
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    torch.save(theirs().state_dict(), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    for name in ("old.pt", "legacy.pt"):
        with pytest.raises(UserError, match="isn't in the current format"):
            read_weights(str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


def test_a_file_is_bounded(tmp_path, monkeypatch) -> None:
    path = saved(tmp_path / "theirs.pt", theirs())
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in archive.namelist():
            packed.writestr(entry, archive.read(entry))
    with pytest.raises(UserError, match="contains compressed entries"):
        read_weights(str(tmp_path / "packed.pt"))
    # 4 bytes in the file, 4 TB when it is written out
    torch.save({"rnn.weight_ih_l0": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "wide.pt")
    with pytest.raises(UserError, match="its tensors are larger than 1,024 MB"):
        read_weights(str(tmp_path / "wide.pt"))
    monkeypatch.setattr(imported, "MOST_BYTES", 1 << 10)
    with pytest.raises(UserError, match="larger than the limit of 0 MB"):
        read_weights(path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "contains no recurrent layers; it contains nothing"),
        ({"fc.weight": torch.zeros(2, 3)}, r"contains no recurrent layers; it contains fc.weight \[2, 3\]"),
        ({"recurrent.layers.0.weight_hh": torch.zeros(4, 1)}, "to start from a Reprise model, give its name"),
        (nn.LSTM(5, 6, proj_size=3).state_dict(), "layer 1 can't be used: it projects its outputs"),
        ({"r.weight_ih_l0": torch.zeros(10, 5), "r.weight_hh_l0": torch.zeros(10, 5)}, r"no supported .*\[10, 5\]"),
        ({"r.weight_ih_l0": torch.zeros(()), "r.weight_hh_l0": torch.zeros(())}, r"no supported .*\[\] and \[\]"),
        ({"r.weight_ih_l0": torch.zeros(20, 5)}, "r, layer 1 can't be used: weight_ih or weight_hh is missing"),
        ({"r.weight_ih_l1": torch.zeros(20, 5), "r.weight_hh_l1": torch.zeros(20, 5)}, "a layer below it is missing"),
        (
            {"r.weight_ih_l0": torch.zeros(20, 5), "r.weight_hh_l0": torch.full((20, 5), torch.nan)},
            "r, layer 1 contains NaN or infinity",
        ),
        ([1, 2], "contains a list, not a state dict"),
    ],
)  # fmt: skip
def test_other_contents_are_refused(tmp_path, values, said) -> None:
    torch.save(values, tmp_path / "odd.pt")
    with pytest.raises(UserError, match=said):
        read_weights(str(tmp_path / "odd.pt"))


def test_damaged_and_missing_files_are_refused(tmp_path) -> None:
    whole = Path(saved(tmp_path / "theirs.pt", theirs())).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    for n in range(0, len(whole), 97):  # whatever is in the way of a byte
        (tmp_path / "changed.pt").write_bytes(whole[:n] + bytes([whole[n] ^ 0x55]) + whole[n + 1 :])
        with contextlib.suppress(UserError):
            read_weights(str(tmp_path / "changed.pt"))
    for name, said in {
        "cut.pt": "isn't in the current format",
        "cut.safetensors": "can't be read",
        "no.pt": "no such file",
    }.items():
        with pytest.raises(UserError, match=said):
            read_weights(str(tmp_path / name))


def test_without_h5py_it_says_what_to_install(tmp_path, monkeypatch) -> None:
    (tmp_path / "theirs.keras").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="reading Keras files needs h5py") as caught:
        read_weights(str(tmp_path / "theirs.keras"))
    assert caught.value.hint == "pip install 'reprise[keras]'"
