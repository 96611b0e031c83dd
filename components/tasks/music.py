"""Music: a language model of scores that writes over chords a person gives, and hands the result to a small band."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from components.encodings.form import METRES, Form, joined, tempo_class
from components.encodings.lead_sheet import LeadSheet
from components.errors import UserError
from components.generation.region import Piece
from components.generation.settings import Progress, Settings, unwatched
from components.progressions import parse_progression
from components.render.band import accompaniment
from components.render.swing import swung
from components.score import Score
from components.tasks.base import Made, cut_off
from components.tasks.language_model import LanguageModel, given_ids, planned

SOLOISTS = {"swing": 66, "straight": 73, "folk": 40}  # General MIDI: tenor saxophone, flute, violin


class MusicSettings(Settings):
    """How to sample, and what to play: Settings, and

    `chords`: a progression or a form, "Dm7 G7 | Cmaj7 | %" or "blues in F", that each piece is written over, `choruses`
    times; nothing: the model makes up its own, where its encoding has chords. `tempo_bpm`: quarter notes a minute, 0:
    the model's choice, or 120 over given chords. `band`: the style in which bass and piano play along by rule.
    `band_seed`: the seed of what they choose; −1: that of the piece.
    """

    def __init__(
        self,
        *,
        chords: Annotated[str, Field(max_length=20_000)] = "",
        choruses: Annotated[int, Field(ge=1, le=64)] = 1,
        tempo_bpm: Annotated[float, Field(ge=0, le=400)] = 0.0,
        band: Literal["none", "swing", "straight", "folk"] = "none",
        band_seed: Annotated[int, Field(ge=-1, lt=2**32)] = -1,
        **sampling: Any,
    ) -> None:
        super().__init__(**sampling)
        self.chords, self.choruses = chords, choruses
        self.tempo_bpm, self.band, self.band_seed = tempo_bpm, band, band_seed


class Music(LanguageModel):
    """The language model's training and measures; what it writes may be given chords, a tempo and a band."""

    settings = MusicSettings

    def generate(self, model: nn.Module, settings: MusicSettings, *, seed: int, progress: Progress = unwatched) -> Made:
        """Scores over the chords that were given, the band included.

        Raises:
            UserError: chords, prompt or constraints can't be read, or the encoding isn't a music encoding.
        """
        prompt_ids, warnings = self.encoding.prompt(settings.prompt)
        piece = self.kept(settings)
        form = self._form(settings, piece)
        if form and settings.bars:
            hint = "leave one of them out"
            raise UserError("chords say how many bars there are", where="generation.bars", hint=hint)
        in_chords = form.length // Score((), self.encoding.steps_per_beat, form.metre).bar_steps if form else 0
        encoding, sections = self.formed(model, settings, in_chords or settings.bars)
        bars = 0 if form else self.bars(settings, sections)
        if bars:
            encoding = planned(self.encoding, encoding, bars, settings, prompt_ids)
        elif settings.given and not piece:
            if form and isinstance(self.encoding, LeadSheet):
                raise UserError("give chords or a file to start from, not both", where="generation.chords")
            encoding = held = given_ids(encoding, settings)
            prompt_ids = held.beginning
        elif form and isinstance(self.encoding, LeadSheet):
            prompt_ids = self.encoding.form_ids(form)
            if not self.encoding.knows_chords:
                hint = "its training pieces had no chords: only constraints (chord-tones, chord-scale) bring them in"
                warnings.append(hint)
        chords = form.chords if form else ()
        sampled, told = self.drawn(model, encoding, piece, prompt_ids, settings, chords, seed=seed, progress=progress)
        warnings += [*cut_off(sampled, settings), *told]
        items = [self._played(self.encoding.decode(one.ids), form, settings, seed + n) for n, one in enumerate(sampled)]
        return Made(items, sampled, warnings, sections)

    def _form(self, settings: MusicSettings, piece: Piece | None) -> Form | None:
        """The form that was asked for, on the encoding's grid; beside a piece that is rewritten, the piece's own."""
        if not settings.chords.strip():
            if settings.choruses > 1:
                hint = 'for example chords: "blues in F"'
                raise UserError("choruses needs chords", where="generation.choruses", hint=hint)
            return None
        if not hasattr(self.encoding, "steps_per_beat"):
            raise UserError(f"the encoding {self.encoding.kind!r} isn't a music encoding", where="generation.chords")
        beats, _, unit = settings.prompt.partition("/")
        metre = (int(beats), int(unit)) if settings.prompt in [f"{b}/{u}" for b, u in METRES] else METRES[0]
        if piece:
            metre = self.encoding.decode(piece.ids).metre
        spb: int = self.encoding.steps_per_beat
        once = parse_progression(settings.chords, metre, spb)
        bar = Score((), spb, metre).bar_steps
        # a progression may begin and end in silence, which has no chord: it still fills its bars
        length = -(-max((chord.start + chord.duration for chord in once), default=0) // bar) * bar
        chords = [
            replace(chord, start=chord.start + chorus * length) for chorus in range(settings.choruses) for chord in once
        ]
        tempo = tempo_class(settings.tempo_bpm or 120.0)
        form = Form(metre, tempo, 0, length * settings.choruses, joined(chords))
        if piece:
            self._check_over(form, piece)
        return form

    def _check_over(self, form: Form, piece: Piece) -> None:
        """Refuse chords beside a piece to rewrite that isn't over them, or whose chords are rewritten."""
        signs = self.encoding.signs if isinstance(self.encoding, LeadSheet) else None
        begin = signs.places(piece.ids).begin if signs else 0
        if signs:
            asked, had = (
                signs.read_form(ids.tolist()) for ids in (self.encoding.form_ids(form)[:-1], piece.ids[:begin])
            )
        if not signs or replace(asked, tempo=0) != replace(had, tempo=0):
            what = "the piece to rewrite isn't over these chords"
            raise UserError(what, where="generation.chords", hint="leave them out: the piece keeps its own")
        if piece.free[:begin].any():
            hint = 'name the melody alone, as in "bars 5-8, melody"; or leave the chords out'
            raise UserError("chords that are given can't be rewritten", where="rewrite", hint=hint)

    def _played(self, score: Any, form: Form | None, settings: MusicSettings, seed: int) -> Any:
        """The piece with its chords as they were given, its tempo and its band."""
        if form:  # the exact symbols: the encoding tells families apart only
            length = score.length_steps
            score = replace(score, chords=form.chords, tempo_bpm=settings.tempo_bpm or 120.0).until(length)
        elif settings.tempo_bpm:
            score = replace(score, tempo_bpm=settings.tempo_bpm)
        if settings.band == "none":
            return score
        program = SOLOISTS[settings.band]
        parts = tuple(replace(p, program=program) if p.role == "melody" else p for p in score.parts)
        score = replace(score, parts=parts)
        score = swung(score) if settings.band == "swing" else score
        own = settings.band_seed if settings.band_seed >= 0 else seed % 2**32
        return accompaniment(score, settings.band, own) if score.chords else score
