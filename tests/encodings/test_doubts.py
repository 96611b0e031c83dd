"""What is told of texts before a model reads them: nothing known, NUL characters, another form of Unicode."""

import unicodedata

import numpy as np
import pytest

from components.answers import read
from components.encodings.bag import Bag
from components.encodings.characters import Characters
from components.encodings.doubts import Doubts, nothing_known
from components.encodings.mel import Mel, Sound
from components.encodings.spelled import Spelled
from components.encodings.strokes import Strokes
from components.encodings.subwords import Subwords
from components.encodings.symbols import Symbols
from components.encodings.tokens import Tokens
from components.encodings.whitespace import Whitespace
from components.encodings.words import Words
from components.ink import Ink

COMPOSED, APART = (unicodedata.normalize(form, "café crème über naïve") for form in ("NFC", "NFD"))
TRAINED = [f"{COMPOSED}, good films. 7"] * 3


def fitted(kind, texts=TRAINED, **options):
    encoding = kind(**options)
    encoding.fit([encoding.split(text) if kind is Symbols else text for text in texts])
    return encoding


def told(encoding, *given) -> list[str]:
    doubts = Doubts()
    for number, one in enumerate(given, 2):
        read(encoding, one, f"a.csv: line {number}", doubts)
    return doubts.lines()


KINDS = [
    (Tokens, {}), (Tokens, {"stem": 3}), (Words, {}), (Whitespace, {}), (Characters, {}), (Spelled, {}), (Symbols, {}),
    (Bag, {"encoding": {"kind": "tokens"}}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_a_text_of_which_no_word_is_known_is_told_with_its_place(kind, options) -> None:
    encoding = fitted(kind, **options)
    foreign, known = "你好，世界。", "good films."
    (line,) = told(encoding, known, foreign, f"{foreign} good", foreign)
    assert line.startswith("warning: the model knows no ")
    assert line.endswith(" of it, so its answer is meaningless: 2 inputs (a.csv: line 3, line 5)")
    assert told(encoding, known, TRAINED[0]) == []


def test_many_places_are_counted_and_the_first_are_named() -> None:
    (line,) = told(fitted(Tokens), *["qq xx"] * 9)
    assert "9 inputs (a.csv: line 2, line 3, line 4, line 5, line 6, …)" in line
    whole, part = Doubts(), Doubts()
    for doubts in (whole, part):
        doubts.add("odd", "inputs[3]")
    whole.take(part)
    assert whole.lines() == ["odd: 2 inputs (inputs[3], inputs[3])"]


@pytest.mark.parametrize(("kind", "options"), [*KINDS, (Subwords, {"merges": 30})], ids=str)
@pytest.mark.parametrize("trained", ["NFC", "NFD"])
def test_a_text_is_read_in_the_form_of_unicode_that_training_had(kind, options, trained) -> None:
    texts = [unicodedata.normalize(trained, text) for text in TRAINED]
    encoding = fitted(kind, texts, **options)
    own, other = (COMPOSED, APART) if trained == "NFC" else (APART, COMPOSED)
    doubts = Doubts()
    assert read(encoding, own, "text 1", doubts) == own
    assert doubts.lines() == []
    assert read(encoding, other, "text 1", doubts) == own
    assert doubts.lines() == [f"normalised to {trained}, the Unicode form of the training data: 1 input (text 1)"]
    if kind is Symbols:
        assert read(encoding, other.split(), "text 1", doubts) == own.split()


def test_nul_characters_are_taken_out_and_told() -> None:
    doubts, encoding = Doubts(), fitted(Tokens)
    assert read(encoding, "go\0od films", "inputs[0]", doubts) == "good films"
    assert read(fitted(Symbols), ["go\0od"], "inputs[1]", doubts) == ["good"]
    assert doubts.lines() == ["NUL characters removed: 2 inputs (inputs[0], inputs[1])"]


def test_prompts_are_read_in_the_same_way() -> None:
    encoding = fitted(Characters)
    ids, warnings = encoding.prompt(APART + "\0")
    assert encoding.decode(ids) == COMPOSED
    assert [warning.partition(":")[0] for warning in warnings] == [
        "NUL characters removed", "normalised to NFC, the Unicode form of the training data",
    ]  # fmt: skip
    pens = Strokes(texts=True)
    pens.fit([Ink((np.arange(8.0).reshape(4, 2),), COMPOSED)])
    assert pens.prompt(APART)[1] == []


def test_letters_make_a_word_known_and_signs_do_not() -> None:
    encoding = fitted(Spelled)
    assert not nothing_known(encoding, encoding.encode("gdoo"))  # no such word, but its letters
    plain = fitted(Tokens)
    assert nothing_known(plain, plain.encode("xyz . , qq"))
    assert not nothing_known(plain, plain.encode(". ,"))


def test_sounds_with_too_few_samples_a_second_are_told() -> None:
    encoding = Mel(rate_hz=16_000)
    slow, fast = (Sound(np.sin(np.arange(rate) / 9.0).astype(np.float32), rate) for rate in (8_000, 22_050))
    (line,) = told(encoding, slow, fast)
    assert line == (
        "the sample rate is only 8,000 Hz: the model's bands above 4,000 Hz are empty: 1 input (a.csv: line 2)"
    )
    encoding.fit([slow, fast, fast])
    (remark,) = encoding.remarks()
    assert "1 of 3 sounds of train have too low a sample rate" in remark
    assert "1 with 8,000" in remark
    encoding.fit([fast])
    assert encoding.remarks() == []
