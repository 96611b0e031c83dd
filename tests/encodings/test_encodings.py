"""Characters and words: what was encoded comes back, wherever the text was cut."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.encodings import fast_pattern, words
from components.encodings.base import encoding_from_state
from components.encodings.characters import Characters
from components.encodings.reversed_characters import ReversedCharacters
from components.encodings.splitting import SPACE
from components.encodings.vocabulary import BOS, EOS, PAD, UNK
from components.encodings.whitespace import Whitespace
from components.encodings.words import TOKEN, Words
from components.errors import UserError

TEXT_ENCODINGS = [Characters, Words]
# Letters, signs, blanks and everything else, lone surrogates included: a reader with errors=replace can't make
# them, but a prompt can hold them.
texts = st.text(st.one_of(st.sampled_from("ab'’ \t\n\u3000\u00a0.,é字\0"), st.characters()), max_size=60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXT_ENCODINGS)
@given(text=texts)
@example(text="x" * 300 + "'" + "y" * 70 + "  \r\n don't\u2019s")
def test_a_text_comes_back_from_its_ids(kind, text):
    encoding = kind()
    encoding.fit([text])
    ids = encoding.encode(text)
    assert ids.dtype == np.int64
    assert UNK not in ids
    assert encoding.decode(ids) == text


@pytest.mark.parametrize("kind", TEXT_ENCODINGS)
@given(text=texts, position=st.integers(0, 60))
@example(text="to be or", position=0)
@example(text="to be or", position=7)
def test_the_halves_of_a_cut_text_encode_as_the_whole(kind, text, position):
    encoding = kind()
    encoding.fit([text])
    cut = encoding.cut(text, min(position, len(text)))
    assert 0 <= cut <= len(text)
    halves = np.concatenate([encoding.encode(text[:cut]), encoding.encode(text[cut:])])
    if kind is Characters or any(character.isspace() for character in text):
        assert halves.tolist() == encoding.encode(text).tolist()


@given(text=texts)
def test_a_text_cut_before_any_whitespace_has_the_same_words(text):
    for position, character in enumerate(text):
        if character.isspace():
            halves = TOKEN.findall(text[:position]) + TOKEN.findall(text[position:])
            assert halves == TOKEN.findall(text)


WRITTEN = ["हिन्दी में मात्राएँ", "عَرَبِيٌّ، نصّ", "ภาษาไทยที่ไม่เว้น", "don’t", "_a_", "½", "²x"]
WRITTEN += ["<unk>", "</s>", "<|end|>", "@-@", "@ , @"]
EMOJIS = ["👩🏽\u200d🚀", "🇮🇳🇫🇷🇩🇪", "❤\ufe0f", "👍🏿!", "\U0001d4d0b", "\u200d", "e\u0301\u0301"]
EMOJIS += ["\x1c", "\u0903", "\ud800"]
written = st.lists(st.one_of(st.sampled_from(WRITTEN), st.sampled_from(EMOJIS), texts), max_size=12).map("".join)


@given(text=written, part=st.sampled_from([1, 5, 4096]))
@example(text="".join(map(chr, range(0x3000))), part=4096)
@example(text=" ".join(WRITTEN + EMOJIS) * 40, part=7)
def test_words_are_cut_by_re_as_by_the_slower_regex(text, part):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_pattern, "PART", part)
        assert fast_pattern.find_all(TOKEN, text, SPACE) == TOKEN.findall(text)
        assert Words()._cut(text) == TOKEN.findall(text)


def test_every_character_is_in_the_same_class_for_re_and_regex():
    for top in (fast_pattern.ASCII, fast_pattern.BMP):
        text = "".join(f"{character}a{character}\u200d{character} " for character in map(chr, range(top)))
        text = text.replace("\u200d", "") if top == fast_pattern.ASCII else text
        assert fast_pattern.in_re(TOKEN.pattern, top).findall(text) == TOKEN.findall(text)


@pytest.mark.parametrize("kind", [Words, Whitespace])
@pytest.mark.parametrize("most_kept", [0, 60, 1 << 25])
def test_what_was_cut_to_be_counted_is_encoded_as_what_is_cut_anew(monkeypatch, kind, most_kept):
    monkeypatch.setattr(words, "LARGE_ITEM", 40)
    monkeypatch.setattr(words, "MOST_KEPT", most_kept)
    items = [" ".join(WRITTEN[at:] + EMOJIS * (at % 2)) for at in range(6)] + ["short", "the end " * 9] * 2
    fitted = kind(min_count=2, lowercase=True)
    fitted.fit(items)
    plain = encoding_from_state(fitted.state())
    monkeypatch.setattr(words, "LARGE_ITEM", 1 << 30)
    slow = kind(min_count=2, lowercase=True)
    slow.fit(items)
    assert fitted.vocabulary == slow.vocabulary
    monkeypatch.setattr(words, "LARGE_ITEM", 40)
    assert bool(fitted._cut_items.kept) == (most_kept > 0)
    for item in [*items, items[0], "not seen before " * 5]:
        ids = fitted.encode(item)
        assert ids.dtype == np.int64
        assert ids.tolist() == plain.encode(item).tolist()
    assert not fitted._cut_items.kept
    fitted.fit(items)
    fitted.vocabulary = Words().vocabulary  # another one than they were counted for
    assert set(fitted.encode(items[0]).tolist()) == {UNK}


@given(text=texts)
def test_no_word_is_longer_than_76_characters(text):
    assert max(map(len, TOKEN.findall(text * 5)), default=0) <= 76
    assert max(map(len, TOKEN.findall("\u0939\u093f" * 300 + "!" + "\u0301" * 300))) <= 76
    assert max(map(len, TOKEN.findall(" " + "x" * 50 + "'" + "y" * 500))) == 64


def test_words_carry_the_space_before_them():
    assert TOKEN.findall("To be, or  not\nto be: don't!") == [
        *("To", " be", ",", " or", " ", " not", "\n", "to", " be", ":", " don't", "!")
    ]


@pytest.mark.parametrize("kind", TEXT_ENCODINGS)
def test_what_training_never_saw_is_unknown_and_visible(kind):
    encoding = kind()
    encoding.fit(["ab ab"])
    assert UNK in encoding.encode("\N{PILE OF POO}")
    shown = {"characters": "\N{REPLACEMENT CHARACTER}", "words": "<UNK>"}[encoding.kind]
    assert encoding.decode([BOS, UNK, EOS, PAD]) == shown


@given(known=texts, text=texts)
def test_every_character_that_training_never_saw_is_unknown(known, text):
    encoding = Characters()
    encoding.fit([known])
    assert [id == UNK for id in encoding.encode(text)] == [character not in known for character in text]


@pytest.mark.parametrize("kind", TEXT_ENCODINGS)
def test_an_encoding_that_was_never_fitted_knows_nothing_and_does_not_fail(kind):
    assert set(kind().encode("abc")) == {UNK}
    assert kind().encode("").tolist() == []
    assert kind().decode([]) == ""


@pytest.mark.parametrize("kind", TEXT_ENCODINGS)
def test_lowercase_encodes_as_the_lowered_text(kind):
    encoding = kind(lowercase=True)
    encoding.fit(["To Be"])
    assert encoding.decode(encoding.encode("TO BE")) == "to be"


@pytest.mark.parametrize("kind", TEXT_ENCODINGS)
def test_rare_tokens_are_left_out_of_the_vocabulary(kind):
    encoding = kind(min_count=2, max_size=1)
    encoding.fit(["a a a", " b b", "c"])
    assert len(encoding.vocabulary) == 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXT_ENCODINGS)
@given(pieces=st.lists(texts, max_size=5))
def test_counting_in_pieces_gives_what_counting_one_by_one_gives(kind, pieces):
    encoding, other = kind(), kind()
    encoding.fit(pieces)
    counted = {}
    for piece in pieces:
        for token in piece if kind is Characters else TOKEN.findall(piece):
            counted[token] = counted.get(token, 0) + 1
    expected = sorted(counted, key=lambda token: (-counted[token], token))
    assert list(encoding.vocabulary.tokens[4:]) == expected
    other.fit(iter(pieces))
    assert other.vocabulary == encoding.vocabulary


@pytest.mark.parametrize("kind", ["characters", "words", "symbols", "tokens"])
@pytest.mark.parametrize("options", [{"min_count": 0}, {"max_size": 0}, {"max_size": -1}])
def test_limits_that_leave_no_vocabulary_are_refused(kind, options):
    with pytest.raises(UserError, match=f"encoding.{next(iter(options))}"):
        encoding_from_state({"kind": kind, "options": options, "vocabulary": []})


def test_characters_counts_more_than_one_batch(monkeypatch):
    monkeypatch.setattr("components.encodings.characters.BATCH", 4)
    encoding = Characters()
    encoding.fit(["abcabc", "c", "cc", "d" * 9])
    assert encoding.vocabulary.tokens[4:] == ("d", "c", "a", "b")


@given(text=texts)
def test_reversed_characters_are_those_of_the_text_from_its_end(text):
    forwards, encoding = Characters(lowercase=True), ReversedCharacters(lowercase=True)
    for each in (forwards, encoding):
        each.fit([text])
    ids = encoding.encode(text)
    assert ids.tolist() == forwards.encode(text).tolist()[::-1]
    assert encoding.decode(ids) == text.lower()
    assert encoding.pieces(text) == forwards.pieces(text)[::-1]
    assert encoding_from_state(encoding.state()).state() == encoding.state()


def test_counting_words_forgets_the_rarest_before_the_memory_is_full(monkeypatch):
    monkeypatch.setattr(words, "MOST_COUNTED", 10)
    encoding = Words()
    encoding.fit(["often often often", *(f"word{index}" for index in range(50))])
    assert " often" in encoding.vocabulary
    assert len(encoding.vocabulary) <= 4 + 10


@pytest.mark.parametrize("kind", TEXT_ENCODINGS)
@given(text=texts)
def test_a_rebuilt_encoding_encodes_alike(kind, text):
    encoding = kind(lowercase=True)
    encoding.fit(["some training text. ü字"])
    again = encoding_from_state(json.loads(json.dumps(encoding.state())))
    assert type(again) is kind
    assert again.options() == encoding.options()
    assert again.encode(text).tolist() == encoding.encode(text).tolist()


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"kind": "morse", "options": {}, "vocabulary": []},
        {"kind": "words", "options": {"min_cuont": 1}, "vocabulary": []},
        {"kind": "words", "options": [], "vocabulary": []},
        {"kind": "characters", "options": {}, "vocabulary": ["<PAD>", "<UNK>", "<BOS>", "<EOS>", "two letters"]},
        {"kind": "chorale", "options": {}, "vocabulary": ["<PAD>", "<UNK>", "<BOS>", "<EOS>", "a"]},
    ],
)
def test_a_damaged_stored_encoding_is_refused(state):
    with pytest.raises(UserError, match="encoding"):
        encoding_from_state(state)


def test_the_mask_keeps_a_text_from_the_specials_but_for_the_end():
    encoding = Characters()
    encoding.fit(["ab"])
    assert encoding.allowed(np.array([BOS])).tolist() == [False, False, False, True, True, True]
