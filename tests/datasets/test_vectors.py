"""Word vectors from a text file: found by spelling, checked, put in once, and not needed any more afterwards."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.bundle import load_bundle, save_bundle
from components.datasets import vectors
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.datasets.vectors import first_words, read_vectors
from components.encodings.base import Field, encoding_from_state
from components.encodings.spelled import Spelled
from components.encodings.symbols import Symbols
from components.encodings.tokens import Tokens
from components.encodings.vocabulary import SPECIALS, UNK, Vocabulary
from components.errors import UserError
from components.models.backbone import Backbone
from components.models.sequence_model import SequenceModel
from components.recipe import Recipe
from components.training.session import Session

VOCABULARY = Vocabulary([*SPECIALS, "The", " the", " Cat", "ÖL", "\n", " ", "seldom"])
LINES = ["the 1 2 3", "cat 4 5 6", "dog 7 8 9", "Cat -1 -2 -3e-1", ". . 1 2 3", "öl 0 0 1", "the 9 9 9"]


def written(folder: Path, lines: list[str], name: str = "vectors.txt") -> Path:
    path = folder / name
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def found(path: Path, size: int = 3) -> dict[str, list[float]]:
    ids, rows = read_vectors(path, VOCABULARY, size)
    assert ids.dtype == np.int64
    assert rows.dtype == np.float32
    assert rows.shape == (len(ids), size)
    return {VOCABULARY.token(int(id)): [round(float(n), 4) for n in row] for id, row in zip(ids, rows, strict=True)}


@pytest.mark.parametrize("name", ["glove.txt", "glove.txt.gz"])
@pytest.mark.parametrize("heading", [[], ["7 3"]])
def test_a_token_has_its_own_spellings_vector_or_the_lowercase_ones(tmp_path, heading, name) -> None:
    assert found(written(tmp_path, heading + LINES, name)) == {
        "The": [1, 2, 3],
        " the": [1, 2, 3],
        " Cat": [-1, -2, -0.3],
        "ÖL": [0, 0, 1],
    }


def test_lines_may_end_with_a_space_and_a_carriage_return(tmp_path) -> None:
    assert found(written(tmp_path, ["the 1 2 3 \r", "cat 4 5 6 \r"])).keys() == {"The", " the", " Cat"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["the 1 2"], "line 1: its vectors have 2 numbers, but the model's embedding has 3"),
        (["400000 300"], "have 300 numbers"),
        (["dog 1 2 3", "the 1 2 nan"], "line 2: a number is NaN, infinite"),
        (["the 1 inf 3"], "NaN, infinite"),
        (["the 1 1e30 3"], "larger than 10000"),
        (["the 1 two 3"], "isn't a vector"),
        (["dog 1 2 3", "the 1 2"], "line 2: 2 numbers instead of 3"),
        (["dog 1 2 3", "the " + "1" * 200], "too long for 3 numbers"),
        (["dog 1 2 3"], "none of the 11 tokens has a vector"),
        ([], "empty"),
    ],
)
def test_what_isnt_a_file_of_such_vectors_is_refused(tmp_path, lines, message) -> None:
    with pytest.raises(UserError, match=message):
        read_vectors(written(tmp_path, lines), VOCABULARY, 3)


def test_a_missing_file_is_a_mistake_of_the_user(tmp_path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.txt"):
        read_vectors(tmp_path / "nowhere.txt", VOCABULARY, 3)


def zipped(folder: Path, files: dict[str, list[str]], name: str = "vectors.zip") -> Path:
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, lines in files.items():
            archive.writestr(file, "".join(f"{line}\n" for line in lines))
    return folder / name


def test_a_file_in_a_zip_is_named_like_one_in_a_folder(tmp_path) -> None:
    plain = found(written(tmp_path, LINES))
    path = zipped(tmp_path, {"of.2d.txt": ["the 1 2"], "sub/of.3d.txt": LINES})
    assert found(path / "sub" / "of.3d.txt") == plain
    with pytest.raises(UserError, match=r"contains 2 files\nchoose one: vectors\.zip/of\.2d\.txt, vectors\.zip/sub/of"):
        found(path)
    with pytest.raises(UserError, match=r"contains no of\.4d\.txt\nchoose one"):
        found(path / "of.4d.txt")
    assert found(zipped(tmp_path, {"of.3d.txt": LINES}, "one.ZIP")) == plain, "the only one needs no name"


def test_a_missing_or_damaged_zip_is_a_mistake_of_the_user(tmp_path) -> None:
    with pytest.raises(UserError, match=r"(?s)model\.vectors: .*gone\.zip: no such file.*862 MB"):
        found(tmp_path / "gone.zip" / "a.txt")
    path = zipped(tmp_path, {"a.txt": LINES * 1000})
    path.write_bytes(path.read_bytes()[:40] + bytes(20) + path.read_bytes()[60:])
    with pytest.raises(UserError, match="damaged"):
        found(path)


def test_a_zip_that_expands_too_far_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(vectors, "SMALL", 1000)
    path = zipped(tmp_path, {"a.txt": ["dog 1 2 3"] * 50_000})
    with pytest.raises(UserError, match="packed bytes expand to more than"):
        found(path)


@pytest.mark.parametrize("heading", [[], ["7 3"]])
def test_the_first_words_of_a_file(tmp_path, heading) -> None:
    path = written(tmp_path, heading + LINES)
    assert first_words(path, 3) == ["the", "cat", "dog"]
    assert len(first_words(path, 100)) == len(LINES)
    with pytest.raises(UserError, match="line 2: no numbers after the word"):
        first_words(written(tmp_path, ["the 1 2 3", "cat"]), 5)


@pytest.mark.parametrize("of", [Symbols, Tokens, Spelled])
def test_words_of_the_file_are_known_beside_those_of_training(of) -> None:
    items = [["Seen", "twice"], ["seen"]] if of is not Tokens else ["Seen twice", "seen"]
    encoding = of(lowercase=True, known_words=4)
    encoding.vectors_words = ["seen", "New", "don't", "new", "beyond"]
    encoding.fit(items)
    ordinary = encoding.vocabulary.tokens[len(SPECIALS) :]
    cut = () if of is not Tokens else ("don't",)  # tokens reads it as two words
    assert ordinary == tuple(word for word in ("seen", "twice", "new", "don't") if word not in cut)
    assert encoding.vocabulary.id("beyond") == UNK
    assert encoding_from_state(encoding.state()).state() == encoding.state(), "it is rebuilt without the file"


def test_stems_are_of_training_alone() -> None:
    encoding = Tokens(known_words=1, stem=3)
    encoding.vectors_words = ["wonderful"]
    encoding.fit(["film"])
    assert encoding.vocabulary.tokens[len(SPECIALS) :] == ("^fil", "film", "wonderful")


def test_known_words_need_a_file() -> None:
    with pytest.raises(UserError, match=r"encoding\.known_words: needs a file of word vectors.*\nset model\.vectors"):
        Symbols(known_words=3).fit([["a"]])


def test_known_words_without_a_file_are_a_problem_of_the_recipe() -> None:
    reading = {"kind": "tokens", "known_words": 2}
    section = {"kind": "pair", "input": reading, "target": {"kind": "labels"}}
    values = {"data": {"path": "t.csv", "reader": "table"}, "encoding": section, "task": {"kind": "classification"}}
    model = {"kind": "gru", "hidden_size": 4}
    with pytest.raises(UserError, match=r"encoding\.known_words: needs model\.vectors"):
        Recipe.from_dict("own", values | {"model": model})
    Recipe.from_dict("own", values | {"model": model | {"vectors": "v.txt"}})


def test_ingestion_knows_the_words_of_the_vectors_and_is_done_anew_for_others(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("text,label\ngood film,1\nbad film,0\n", encoding="utf-8")
    data = {"path": "t.csv", "reader": "table", "split": [1.0, 0.0, 0.0]}
    reading = {"kind": "tokens", "known_words": 2}
    section = {"kind": "pair", "input": reading, "target": {"kind": "labels"}}

    def made(lines: list[str]) -> tuple[str, tuple[str, ...]]:
        path = str(written(tmp_path, lines))
        ref = ingest(data, section, root=tmp_path, cache_dir=tmp_path / "c", seed=0, vectors=path)
        return ref.path, Store.open(ref.path).encoding().input.vocabulary.tokens[len(SPECIALS) :]

    first, words = made(LINES)
    assert words[-2:] == ("the", "cat")
    other, words = made(LINES[2:])
    assert words[-2:] == ("dog", "Cat")
    assert other != first
    assert made(LINES)[0] == first


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_raise_anything_else(tmp_path_factory, data, begun) -> None:
    path = tmp_path_factory.mktemp("v") / "v.txt"
    path.write_bytes(b"the 1 2 3\n" * begun + data)
    try:
        ids, rows = read_vectors(path, VOCABULARY, 3)
    except UserError:
        return
    assert len(ids) == len(rows)
    assert np.isfinite(rows).all()


@pytest.fixture
def recipe(tmp_path, small_recipe):
    """A language model of words that starts from vectors of length 8 for some of them."""
    rng = np.random.default_rng(0)
    lines = [f"{word} {' '.join(f'{n:.3f}' for n in rng.normal(size=8))}" for word in ("the", "cat", "sat", "unseen")]
    vectors = str(written(tmp_path, lines))

    def make(**model) -> Recipe:
        options = {"kind": "gru", "hidden_size": 8, "num_layers": 1, "dropout": 0.0, "vectors": vectors, **model}
        return small_recipe("stream", encoding={"kind": "words"}, model=options)

    return make


@pytest.mark.slow
def test_training_starts_from_the_vectors_and_a_bundle_does_without_the_file(
    recipe, small_store, silent, tmp_path
) -> None:
    store = small_store(recipe())
    session = Session(recipe(freeze_vectors=True), store, "cpu", 1)
    random = session.model.embedding.weight.detach().clone()
    session.train(tmp_path / "run", silent)
    ids, rows = read_vectors(tmp_path / "vectors.txt", session.encoding.vocabulary, 8)
    size = len(session.encoding.vocabulary)
    (share,) = (values["train/tokens_with_vectors"] for values, step in silent.points if step == 0)
    assert share == pytest.approx(len(ids) / size)
    assert {"the", " the", " cat"} <= {session.encoding.vocabulary.token(int(id)) for id in ids}
    weight = session.model.embedding.weight.detach()
    assert torch.equal(weight[torch.from_numpy(ids)], torch.from_numpy(rows))
    others = np.setdiff1d(np.arange(size), ids)
    assert len(others) > 4
    assert torch.equal(weight[others], random[others])

    save_bundle(tmp_path / "b", "x", session.model, session.encoding, recipe().as_dict(), {"framing": "stream"})
    (tmp_path / "vectors.txt").unlink()
    assert torch.equal(load_bundle(tmp_path / "b").model.embedding.weight, weight)
    # nor is it read again when training goes on
    again = Session(recipe(freeze_vectors=True), store, "cpu", 1)
    again.train(tmp_path / "run", silent)
    assert torch.equal(again.model.embedding.weight, weight)


@pytest.mark.slow
def test_vectors_are_learned_further_unless_they_are_frozen(recipe, small_store, silent, tmp_path) -> None:
    session = Session(recipe(), small_store(recipe()), "cpu", 1)
    session.train(tmp_path / "run", silent)
    ids, rows = read_vectors(tmp_path / "vectors.txt", session.encoding.vocabulary, 8)
    moved = (session.model.embedding.weight.detach()[torch.from_numpy(ids)] - torch.from_numpy(rows)).abs()
    assert 1e-4 < moved.max() < 1


def test_the_file_is_looked_for_where_the_command_ran(recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipe(vectors="vectors.txt").model["vectors"] == str(tmp_path / "vectors.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectors": "v.txt", "input": "one_hot"}, "model.vectors: needs a model with an embedding"),
        ({"freeze_vectors": True}, "model.freeze_vectors: needs model.vectors"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(options, message) -> None:
    with pytest.raises(UserError, match=message):
        SequenceModel(9, kind="gru", hidden_size=4, **options)


def test_the_embeddings_first_values_are_scaled() -> None:
    models = []
    for scale in (1.0, 0.1):
        torch.manual_seed(0)
        models.append(Backbone([Field(size=9), Field(size=3)], kind="gru", hidden_size=4, embedding_scale=scale))
    plain, scaled = ([m.embedding.weight, m.context_embeddings[0].weight] for m in models)
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(0.1 * a, b)
    assert torch.equal(models[0].recurrent.layers[0].weight_hh, models[1].recurrent.layers[0].weight_hh)
