"""A part of a piece that is sent is rewritten: the same that the command line makes."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.bundle import Bundle, load_bundle
from components.errors import UserError
from components.generation.draft import Draft
from components.generation.region import Piece
from components.generation.settings import Settings
from components.render.midi import write_midi
from components.score import Note, Part, Score
from components.serving.batching import Batcher, Deadline, Shared
from components.serving.models import described
from components.serving.pieces import PieceCache, answer
from components.serving.problems import Limits
from components.serving.requests import GenerateRequest, Item
from components.serving.uploads import Uploads
from components.tracking.base import ModelRef
from components.use.opening import Opened
from tests.small_models import save


@pytest.mark.slow
def test_a_piece_that_is_sent_is_rewritten_as_anywhere_else(tmp_path) -> None:
    save(tmp_path / "bundle", "four-voices")
    bundle = load_bundle(tmp_path / "bundle")
    parts = tuple(Part(f"{v}", tuple(Note(at, 4, 70 - 7 * v) for at in range(0, 32, 4))) for v in range(4))
    write_midi(Score(parts, length_steps=32), tmp_path / "piece.mid")
    sent = {"name": "piece.mid", "base64": base64.b64encode((tmp_path / "piece.mid").read_bytes()).decode()}

    def request(**asked: object) -> GenerateRequest:
        return GenerateRequest(model="four-voices", **asked)

    uploads = Uploads(Limits())
    settings = uploads.given(bundle, request(keep=sent, settings={"rewrite": "bar 2, bass"}), Deadline(60.0))
    assert settings["rewrite"] == "bar 2, bass"
    piece = Piece.read(settings["rewrite"], bundle.encoding, settings["given"])
    assert piece.free.sum() == 16
    plain = bundle.generate(settings | {"particles": 4}, seed=3)
    shared = Shared(Batcher(bundle.model, Limits()), Deadline(60.0))
    (served,) = shared.sample(Draft(bundle.encoding, (), Settings(particles=4, count=1), seed=3, piece=piece))
    assert (served.ids == plain.sampled[0].ids).all()
    with pytest.raises(UserError, match="tokens") as refused:
        shared.sample(Draft(bundle.encoding, (), Settings(particles=4096, count=64), seed=3, piece=piece))
    assert "particles" in refused.value.hint
    for wrong in ({"keep": sent}, {"keep": sent, "start": sent}, {"start": sent, "settings": {"rewrite": "bar 1"}}):
        with pytest.raises(UserError):
            uploads.given(bundle, request(**wrong), Deadline(60.0))
    assert uploads.given(bundle, request(settings={"rewrite": "bar 1"}), Deadline(60.0)) == {}, "the settings have it"


def asked(bundle: Bundle, seed: int, **settings: Any) -> Item:
    """The item that the API answers."""
    request = GenerateRequest(model="m", settings=settings)
    made = bundle.generate({k: v for k, v in request.settings.model_dump().items() if v is not None}, seed=seed)
    (item,) = answer(Opened(bundle, bundle.name, "1", ""), made, PieceCache(Limits())).items
    return item


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "length", "region", "voices"),
    [
        ("four-voices", 263, "bars 1-2, alto bass", ["soprano", "alto", "tenor", "bass"]),
        ("blues", 600, "bars 2-3, melody", ["melody", "chords"]),
    ],
)
def test_an_answer_has_what_keeps_its_piece(name: str, length: int, region: str, voices: list[str], tmp_path) -> None:
    save(tmp_path / "bundle", name)
    bundle = load_bundle(tmp_path / "bundle")
    assert described(ModelRef(name, "1", "", ""), tmp_path / "bundle").voices == voices
    over = {"chords": "Dm7b5 G13 | Cmaj7 | % | C6", "band": "swing"} if name == "blues" else {}
    first = asked(bundle, 2**40, count=1, max_length=length, **over)
    keep = {**over, "given": first.given, "given_ends": True, "rewrite": region, "count": 1, "particles": 4}
    again = asked(bundle, 7, **keep, **({"band_seed": 2**40 % 2**32} if over else {}))
    whole = Piece.read(region, bundle.encoding, first.given)
    if name == "four-voices":
        assert not first.ended, "what was cut off can be kept too"
        assert (np.array(again.given)[~whole.free] == whole.ids[~whole.free]).all()
    else:  # a gap may have another number of tokens
        gap = np.flatnonzero(whole.free)
        stays = [*whole.ids[: gap[0]], *whole.ids[gap[-1] + 1 :]]
        after = len(whole.ids) - gap[-1] - 1
        assert [*again.given[: gap[0]], *again.given[len(again.given) - after :]] == stays
        assert gap[0] + after > 8
        assert again.score["chords"] == first.score["chords"], "as they were written"
        assert again.score["parts"][1:] == first.score["parts"][1:], "the same band"
    assert again.given != first.given
    assert again.score["parts"][0] != first.score["parts"][0] or name == "four-voices"
    assert asked(bundle, 7, **keep).given == again.given


@pytest.mark.slow
def test_chords_beside_a_piece_to_rewrite_are_its_own(tmp_path: Path) -> None:
    save(tmp_path / "bundle", "blues")
    bundle = load_bundle(tmp_path / "bundle")
    first = asked(bundle, 1, count=1, max_length=600, chords="Dm7 G7 | Cmaj7 | % | C6")
    keep = {"given": first.given, "given_ends": True, "count": 1, "particles": 2, "rewrite": "bars 1-3, melody"}
    for wrong, what in (
        ({"chords": "Dm7 G7 | Cmaj7 | % | Am"}, "has other chords"),
        ({"chords": "Dm7 G7 | Cmaj7 | %"}, "has other chords"),
        ({"chords": "Dm7 G7 | Cmaj7 | % | C6", "choruses": 2}, "has other chords"),
        ({"chords": "Dm7 G7 | Cmaj7 | % | C6", "rewrite": "bar 1"}, "the chords can't be rewritten"),
        ({"chords": "Dm7 G7 | Cmaj7 | % | C6", "bars": 4}, "complete|the piece keeps its length"),
    ):
        with pytest.raises(UserError, match=what):
            asked(bundle, 1, **keep | wrong)
    assert asked(bundle, 1, **keep, tempo_bpm=200.0).score["tempo_bpm"] == 200, "a tempo is how it is played"


def test_what_cannot_be_rewritten_has_nothing_to_keep(tmp_path: Path) -> None:
    save(tmp_path / "bundle", "rolls")
    assert described(ModelRef("rolls", "1", "", ""), tmp_path / "bundle").voices == []
    assert asked(load_bundle(tmp_path / "bundle"), 1, count=1).given is None
