"""Scores to MidiTok's tokens and back, in memory. The only module that uses MidiTok.

MidiTok (Fradet et al., ISMIR 2021 late-breaking demos) implements the vocabularies REMI (Huang & Yang 2020), Structured
(Hadjeres & Crestel 2021) and MIDI-Like (Oore et al. 2018), and its own TSD. V is the number of tokens without specials.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

import miditok
import numpy as np
import symusic

from components.encodings.notes import settled
from components.score import Note, Part, Score

CLASSES = {"remi": "REMI", "tsd": "TSD", "midi_like": "MIDILike", "structured": "Structured"}
EXACT_BEATS, MOST_BEATS = 8, 32  # durations are exact up to the first, to the beat up to the second, longer ones cut
METRES = tuple((beats, unit) for unit in (4, 8) for beats in range(1, 13))
PIANO, DRUMS = 0, -1  # programs as MidiTok counts them
DRUM_PITCHES = range(27, 89)  # of General MIDI 2
LONGEST_STEPS = 1_000_000
DEFAULT_VELOCITY = 80


class MidiTokens:
    """One of MidiTok's tokenizers with a fixed vocabulary; ids begin at 0."""

    def __init__(self, kind: str, steps_per_beat: int, velocities: int, programs: bool) -> None:
        self.steps_per_beat, self.programs, self.velocities = steps_per_beat, programs, velocities
        self.knows_metre = kind != "structured"
        config = miditok.TokenizerConfig(
            pitch_range=(0, 127),
            drums_pitch_range=(DRUM_PITCHES[0], DRUM_PITCHES[-1]),
            beat_res={(0, EXACT_BEATS): steps_per_beat, (EXACT_BEATS, MOST_BEATS): 1},
            num_velocities=max(velocities, 1),
            use_velocities=velocities > 0,
            special_tokens=["PAD"],  # MidiTok needs one; replaced by our specials
            use_programs=programs,
            use_time_signatures=self.knows_metre,
            time_signature_range={unit: [b for b, u in METRES if u == unit] for unit in (4, 8)},
            use_tempos=self.knows_metre,
            encode_ids_split="no",
        )
        self._tokenizer = getattr(miditok, CLASSES[kind])(config)
        names = sorted(self._tokenizer.vocab, key=self._tokenizer.vocab.get)
        self.tokens = tuple(names[1:])
        self.types = tuple(name.split("_")[0] for name in self.tokens)
        self._ticks = Fraction(self._tokenizer.time_division, steps_per_beat)  # per step

    def follows(self) -> dict[str, set[str]]:
        """Which types of tokens may follow a token of each type; "" begins a piece."""
        graph = {kind: set(after) & set(self.types) for kind, after in self._tokenizer.tokens_types_graph.items()}
        start = self.encode(Score((Part("", (Note(0, 1, 60),)),), self.steps_per_beat, length_steps=1))
        return {kind: after for kind, after in graph.items() if kind in self.types} | {"": {self.types[start[0]]}}

    def encode(self, score: Score) -> np.ndarray:
        """int64 [T], ids below V. Empty where the score has no notes."""
        scale = Fraction(self.steps_per_beat, score.steps_per_beat)
        tracks: dict[int, list[Note]] = defaultdict(list)
        # MidiTok has no upbeats: a first bar that begins with silence keeps the bar lines
        shift = -round(score.upbeat_steps * scale) % max(1, round(score.bar_steps * scale)) if score.upbeat_steps else 0
        for part in score.parts:
            program = DRUMS if part.role == "drums" else part.program
            for note in part.notes:
                start = round(note.start * scale)
                end = max(start + 1, round((note.start + note.duration) * scale))
                moved = Note(start + shift, end - start, note.pitch, note.velocity)
                tracks[program if self.programs else PIANO].append(moved)
        if not tracks:
            return np.zeros(0, dtype=np.int64)
        made = symusic.Score(self._tokenizer.time_division)
        for program, notes in sorted(tracks.items()):
            track = symusic.Track(name="", program=max(program, 0), is_drum=program == DRUMS)
            for note in settled(notes):
                ticks = round(note.start * self._ticks), round(note.duration * self._ticks)
                track.notes.append(symusic.Note(*ticks, note.pitch, note.velocity))
            made.tracks.append(track)
        made.tempos.append(symusic.Tempo(0, score.tempo_bpm))
        for step, metre in [(0, score.metre), *score.metre_changes]:
            at = round((round(step * scale) + shift * (step > 0)) * self._ticks)
            made.time_signatures.append(symusic.TimeSignature(at, *known_metre(metre)))
        found = self._tokenizer.encode(made, encode_ids=False)
        ids = found[0].ids if isinstance(found, list) else found.ids
        return np.array(ids, dtype=np.int64) - 1

    def decode(self, ids: np.ndarray) -> Score:
        """The score of ids [T]. MidiTok skips ids that break the grammar."""
        sequence = miditok.TokSequence(ids=(np.asarray(ids, dtype=np.int64) + 1).tolist())
        sequence = sequence if self._tokenizer.config.one_token_stream_for_programs else [sequence]
        made = self._tokenizer.decode(sequence)
        parts = [self._part(track) for track in made.tracks if len(track.notes)]
        metres = [(round(m.time / self._ticks), (m.numerator, m.denominator)) for m in made.time_signatures]
        changes = [(step, metre) for step, metre in metres if 0 < step < LONGEST_STEPS]
        return Score(
            tuple(part for part in parts if part.notes),
            steps_per_beat=self.steps_per_beat,
            metre=next((metre for step, metre in metres if step == 0), (4, 4)),
            length_steps=max((note.start + note.duration for part in parts for note in part.notes), default=0),
            tempo_bpm=round(float(made.tempos[0].qpm), 2) if len(made.tempos) else 120.0,
            metre_changes=tuple(changes),
        )

    def _part(self, track: symusic.Track) -> Part:
        """The track's notes on the grid of steps."""
        columns = track.notes.numpy()
        rows = zip(*(columns[name].tolist() for name in ("time", "duration", "pitch", "velocity")), strict=True)
        notes = []
        for time, duration, pitch, velocity in rows:
            start = round(time / self._ticks)
            length = max(1, round((time + duration) / self._ticks) - start)
            if start < LONGEST_STEPS:
                notes.append(Note(start, length, pitch, velocity if self.velocities else DEFAULT_VELOCITY))
        role = "drums" if track.is_drum else ""
        return Part(track.name or "Piano", settled(notes), 0 if track.is_drum else track.program, role)


def known_metre(metre: tuple[int, int]) -> tuple[int, int]:
    """The metre for MidiTok: in quarters or eighths, with the same length of a bar if possible."""
    beats, unit = metre
    for choice in ((beats, unit), (beats * 4 // unit, 4), (beats * 8 // unit, 8)):
        if choice in METRES and choice[0] * unit == beats * choice[1]:
            return choice
    return min(METRES, key=lambda known: abs(known[0] / known[1] - beats / unit))
