"""Nucleotides: FASTA and labelled windows, the letters of IUPAC, and what an encoding makes of them."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.text.bases import BasesReader
from components.encodings.base import encoding_from_state
from components.encodings.bases import IUPAC, Bases
from components.errors import UserError

UCI = """EI,    ATRINS-DONOR-521,               ACGTAC
IE,ATRINS-ACCEPTOR-1, acgunn
N,  BAD, ACGTXZ

N,  SHORT, ACG
N, two fields
EI, AGAIN, ACGTAC
"""
FASTA = """;a comment
>one first EI
ACG
TA C

>two
ACGTAC
>three third N
acgtac"""


def write(folder, text, name="x.data"):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_the_name_of_a_split_is_no_part_of_a_label(tmp_path):
    for split in ("train", "test"):
        files = [write(tmp_path, f">a\n{bases}\n", f"{split}_{name}.fa") for name, bases in (("x", "AC"), ("y", "GT"))]
        assert list(BasesReader(files, label_in="file").items()) == [("AC", "x"), ("GT", "y")]
    alone = [*files, write(tmp_path, ">a\nTT\n", "z.fa")]
    assert [label for _, label in BasesReader(alone, label_in="file").items()] == ["test_x", "test_y", "z"]


@pytest.mark.parametrize("name", ["x.data", "x.data.gz"])
def test_lines_of_label_name_and_bases(tmp_path, name):
    reader = BasesReader([write(tmp_path, UCI, name)], window=6)
    assert list(reader.items()) == [("ACGTAC", "EI"), ("ACGTNN", "IE")]
    assert reader.dropped == {
        "not a letter of IUPAC: X, Z": 1,
        "not 6 bases": 1,
        "not a line of label, name, bases": 1,
        "empty line": 1,
        "repeated": 1,
    }
    assert [row.problem for row in reader.inputs()].count("") == 3


def test_fasta_records_with_their_labels(tmp_path):
    path = write(tmp_path, FASTA, "viral.fa")
    reader = BasesReader([path])
    assert list(reader.items()) == [("ACGTAC", "EI"), ("ACGTAC", "N")]
    assert reader.dropped == {"no label": 1}
    assert reader.group(("ACGTAC", "EI")) == reader.group(("ACGTAC", "N"))
    by_file = BasesReader([path], label_in="file", unique=False)
    assert list(by_file.items()) == [("ACGTAC", "viral")] * 3
    assert [row.shown["name"] for row in reader.inputs()] == ["one", "two", "three"]


def test_a_long_record_is_cut_into_windows(tmp_path):
    path = write(tmp_path, ">x N\nAACCGGTTAC\n", "x.fa")
    reader = BasesReader([path], window=4, step=3)
    assert [row.shown for row in reader.inputs()] == [
        {"name": "x:1", "bases": "AACC"},
        {"name": "x:4", "bases": "CGGT"},
        {"name": "x:7", "bases": "TTAC"},
    ]
    assert list(BasesReader([path], window=4).items()) == []
    with pytest.raises(UserError, match=r"only works with data\.window"):
        BasesReader([path], step=2)


def test_bases_alone_can_be_predicted_but_not_learned_from(tmp_path):
    path = write(tmp_path, "ACGT\nname, ACGT\n")
    reader = BasesReader([path])
    assert [row.input for row in reader.inputs()] == ["ACGT", "ACGT"]
    assert list(reader.items()) == []


def test_a_record_without_an_end_is_refused_within_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr("components.datasets.text.bases.LONGEST", 20)
    with pytest.raises(UserError, match="a record of more than 20 bases"):
        list(BasesReader([write(tmp_path, ">x N\n" + "ACGT\n" * 6)]).items())


@given(text=st.text(st.sampled_from([*IUPAC, "a", "n", "U"]), min_size=1, max_size=30), waves=st.integers(0, 3))
def test_every_letter_is_the_shares_of_what_it_stands_for_and_comes_back(text, waves):
    encoding = Bases(waves=waves)
    frames = encoding.encode(text)
    assert frames.shape == (len(text), encoding.fields["frames"].width)
    assert frames[:, :4].sum(1) == pytest.approx(np.ones(len(text)))
    for letter, shares in zip(text.upper().replace("U", "T"), frames[:, :4], strict=True):
        assert [base for base, share in zip("ACGT", shares, strict=True) if share] == list(IUPAC[letter])
    assert encoding.decode(frames) == text.upper().replace("U", "T")
    assert (encoding_from_state(encoding.state()).encode(text) == frames).all()


def test_places_are_told_apart_and_counted_from_the_middle():
    encoding = Bases(waves=8)
    waves = encoding.encode("A" * 60)[:, 4:]
    assert len({tuple(row) for row in waves.round(4).tolist()}) == 60
    assert (encoding.encode("A" * 40)[20, 4:] == waves[30]).all()


@pytest.mark.parametrize("text", ["ACGX", "AC T", "字"])
def test_what_is_no_base_is_refused_with_its_place(text):
    with pytest.raises(UserError, match="isn't a base"):
        Bases().encode(text)
