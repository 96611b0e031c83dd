"""What words and signs are: marks stay with their letters, and tokens that a corpus marks stay whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.encodings.bag import Bag
from components.encodings.base import encoding_from_state
from components.encodings.conditioned import Conditioned
from components.encodings.pair import Pair
from components.encodings.spelled import Spelled
from components.encodings.subwords import Subwords
from components.encodings.symbols import Labels, Symbols
from components.encodings.tokens import Tokens
from components.encodings.vocabulary import BOS, EOS, PAD, SPECIALS, UNK
from components.encodings.whitespace import Whitespace
from components.encodings.words import Words

HINDI = "बच्चा किताब पढ़ता है"
ARABIC = "ذَهَبَ الوَلَدُ إِلى المَدرَسَةِ"
PERSIAN = "کتاب‌ها می‌خوانم"
VIETNAMESE = "tie\u0302\u0301ng Vie\u0323\u0302t"  # taken apart, as some keyboards write it
THAI = "หนังสือเล่มนี้ ดีมาก"


def cut(encoding, text):
    return [word.strip() for word in encoding._tokens(text) if word.strip()]


@pytest.mark.parametrize("text", [HINDI, ARABIC, PERSIAN, VIETNAMESE, THAI])
@pytest.mark.parametrize(
    "make", [Words, Tokens, Subwords, Symbols, lambda: Spelled(lowercase=False, zero_digits=False)]
)
def test_combining_marks_stay_with_their_letters(make, text) -> None:
    encoding = make()
    found = encoding._words(text) if isinstance(encoding, Subwords) else encoding._tokens(text)
    assert [word.strip() for word in found] == text.split(" ")


@pytest.mark.parametrize("make", [Words, Tokens, Symbols])
def test_a_sign_is_what_a_reader_sees_as_one(make) -> None:
    signs = [
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "\U0001f1e9\U0001f1ea",
        "\U0001f44d\U0001f3fd",
        "!",
        "?\u0301",
    ]
    assert cut(make(), " ".join(signs)) == signs
    assert cut(make(), "a" + "".join(signs[:3]) + "b") == ["a", *signs[:3], "b"]


@pytest.mark.parametrize("make", [Words, Tokens, Symbols])
def test_tokens_that_a_corpus_marks_stay_whole(make) -> None:
    marked = ["<unk>", "</s>", "<|end|>", "@-@", "@,@", "@.@", "<pad>", "<UNK>"]
    assert cut(make(), " ".join(marked)) == marked
    assert cut(make(), "5 @,@ 000 well @-@ known <unk>.") == ["5", "@,@", "000", "well", "@-@", "known", "<unk>", "."]
    assert cut(make(), "a < b > c <3 @ -") == ["a", "<", "b", ">", "c", "<", "3", "@", "-"]


def test_a_stem_is_not_cut_inside_a_letter_and_its_marks() -> None:
    assert Tokens(stem=2)._tokens("किताबों कभी") == ["किताबों", "^किता", "कभी", "^कभी"]
    assert Tokens(stem=2)._tokens("Übung") == ["Übung", "^Üb"]


CORPUS = " the <unk> sat on n.v. 's well @-@ known N \n\n = A head = \n she said no \n"


def test_whitespace_counts_what_stands_between_blanks_and_the_line_ends() -> None:
    encoding = Whitespace()
    encoding.fit([CORPUS])
    ids = encoding.encode(CORPUS)
    assert len(ids) == sum(len(line.split()) + 1 for line in CORPUS.splitlines()) == 21, (
        "as PTB and WikiText are counted"
    )
    assert UNK not in ids
    assert [encoding.vocabulary.token(int(id)) for id in ids][8:12] == ["known", "N", "<eos>", "<eos>"]
    written = encoding.decode([BOS, *ids, EOS, PAD])
    assert written == "the <unk> sat on n.v. 's well @-@ known N\n\n= A head =\nshe said no\n"
    assert encoding.encode(written).tolist() == ids.tolist()
    rebuilt = encoding_from_state(encoding.state())
    assert rebuilt.decode(ids) == written
    assert [len(row) for row in encoding.layout(ids)] == [11, 1, 5, 4]
    assert encoding.label(int(ids[10])) == "⏎"


@given(st.text(st.sampled_from("ab<eos> \n\t\u00a0字"), max_size=40), st.integers(0, 40))
def test_whitespace_is_the_same_wherever_a_text_is_cut(text, position) -> None:
    encoding = Whitespace()
    encoding.fit([text])
    ids = encoding.encode(text)
    assert encoding.encode(encoding.decode(ids)).tolist() == ids.tolist()
    at = encoding.cut(text, min(position, len(text)))
    if any(character.isspace() for character in text):
        assert [*encoding.encode(text[:at]), *encoding.encode(text[at:])] == ids.tolist()


def test_a_corpus_that_is_cut_already_is_ingested_as_it_is(tmp_path) -> None:
    for split, lines in (("train", 30), ("valid", 4), ("test", 6)):
        (tmp_path / f"tiny.{split}.txt").write_text(" the <unk> costs N n.v. \n" * lines)
    data = {"path": str(tmp_path), "reader": "text"}
    ref = ingest(data, {"kind": "whitespace"}, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    counts = Store.open(ref.path).manifest["counts"]
    assert {split: counts[split]["tokens"] for split in counts} == {"train": 180, "val": 24, "test": 36}


@pytest.mark.parametrize("special", SPECIALS)
def test_labels_and_tokens_may_be_called_like_specials(special) -> None:
    labels = Labels()
    labels.fit(["known", special, "other"])
    assert labels.classes == tuple(sorted(["known", special, "other"]))
    ids = labels.encode(["known", special, ""])
    assert ids.tolist()[2] == PAD
    assert labels.decode(ids) == ["known", special, ""]
    assert encoding_from_state(labels.state()).decode(ids) == ["known", special, ""]
    fresh = Labels()
    fresh.fit(["known"])
    assert fresh.encode(special).tolist() == [UNK], "unseen in training, as any other"

    pair = Pair(input={"kind": "tokens"}, target={"kind": "labels"})
    pair.fit([(f"a {special} b", special), ("c", "known")])
    arrays = pair.encode((f"a {special} b", special))
    assert min(arrays["input"].min(), arrays["target"].min()) >= len(SPECIALS)

    conditioned = Conditioned(encoding={"kind": "words"})
    conditioned.fit([(f"a {special}", special), ("c", special.strip("<>"))])
    ids = conditioned.encode((f"a {special}", special))
    assert conditioned.decode(ids) == f"a {special}"
    assert len(set(conditioned.vocabulary.tokens[4:])) == len(conditioned.vocabulary) - 4
    assert conditioned.prompt(special)[0].tolist() == ids[:1].tolist()


@pytest.mark.parametrize("make", [Symbols, Spelled, Words, Whitespace, lambda: Subwords(merges=40)])
@pytest.mark.parametrize("special", SPECIALS)
def test_a_text_that_holds_the_name_of_a_special_comes_back(make, special) -> None:
    encoding = make()
    text = f"a {special} b {special} {special}"
    encoding.fit([text] * 9)
    ids = encoding.encode(text)
    words = encoding.decode(ids)
    assert (words if isinstance(words, str) else " ".join(words)) == text
    assert np.asarray(ids).reshape(len(ids), -1)[:, 0].min() >= len(SPECIALS)
    bag = Bag(encoding={"kind": "tokens"})
    bag.fit([text])
    assert bag.encode(text).sum() == 5
