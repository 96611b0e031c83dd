"""A part of a piece that is sent is rewritten: the same that the command line makes."""

from __future__ import annotations

import base64

import pytest

from components.bundle import load_bundle
from components.errors import UserError
from components.generation.region import Piece
from components.generation.settings import Settings
from components.render.score import write_midi
from components.score import Note, Part, Score
from components.serving.batching import Batcher, Deadline, Shared
from components.serving.problems import Limits
from components.serving.requests import GenerateRequest
from components.serving.uploads import Uploads
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
    (served,) = shared.rewrite(bundle.encoding, piece, Settings(particles=4, count=1), seed=3)
    assert (served.ids == plain.sampled[0].ids).all()
    with pytest.raises(UserError, match="tokens") as refused:
        shared.rewrite(bundle.encoding, piece, Settings(particles=4096, count=64), seed=3)
    assert "particles" in refused.value.hint
    for wrong in ({"keep": sent}, {"keep": sent, "start": sent}, {"start": sent, "settings": {"rewrite": "bar 1"}}):
        with pytest.raises(UserError):
            uploads.given(bundle, request(**wrong), Deadline(60.0))
    assert uploads.given(bundle, request(settings={"rewrite": "bar 1"}), Deadline(60.0)) == {}, "the settings have it"
