"""Reads ABC tunes onto the grid as they sound: repeats expanded, ties joined, tuplets and broken rhythm resolved.

A parser of this project, because music21 needs about 0.1 s for a tune and fails on chord symbols such as "D/f+". The
standard: Chris Walshaw and others, The abc music standard 2.1 (2011). Runs in the sandbox.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import numpy as np

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.abc_fields import Tune
from components.datasets.music.formats.abc_order import in_order
from components.datasets.music.formats.abc_signs import GERMAN_H, parse_tune
from components.datasets.music.formats.grid import (
    LONGEST_STEPS,
    ONLY_DRUMS,
    Piece,
    Track,
    bar_steps,
    chord_spans,
    clean,
    decoded,
    moved,
    settle,
    uneven_bars,
    usable_metre,
)
from components.harmony import Symbol

MOST_TUNES = 20_000
FOR_ALL = re.compile(r"^[LM]:.*\n", re.MULTILINE)  # in the file header, before the first tune


def read_abc(data: bytes, name: str, options: dict[str, Any]) -> list[Piece]:
    """The tunes of an ABC file. Each is a piece with a melody for each voice and the chord symbols.

    Raises:
        Refused: there is no tune in the file.
    """
    text = decoded(data).replace("\r\n", "\n").replace("\r", "\n")
    starts = [match.start() for match in re.finditer(r"^X:", text, re.MULTILINE)][:MOST_TUNES]
    if not starts:
        raise Refused("contains no tune: no line begins with X:")
    german = GERMAN_H.search(text) is not None
    for_all = "".join(FOR_ALL.findall(text, 0, starts[0]))
    stem = clean(PurePath(name).stem)
    pieces = []
    for index, (start, stop) in enumerate(zip(starts, [*starts[1:], len(text)], strict=True), start=1):
        title = f"{stem} {index}" if len(starts) > 1 else stem
        try:
            tune = parse_tune(for_all + text[start:stop], german)
            title = tune.title = clean(tune.title) or title
            pieces.append(_piece(tune, options))
        except Refused as refused:  # the other tunes of the file are still read
            pieces.append(Piece("ABC", title, [], options["steps_per_beat"], refused=str(refused)))
    return pieces


def _piece(tune: Tune, options: dict[str, Any]) -> Piece:
    spb = options["steps_per_beat"]
    tracks: list[Track] = []
    chords: list[tuple[Fraction, Symbol | None]] = []
    metres: dict[Fraction, tuple[int, int]] = {}
    first_bar, errors, remarks = Fraction(0), [], []
    bars: list[Fraction] = []
    for number, voice in enumerate(tune.voices.values()):
        time = Fraction(0)
        spans: list[list] = []  # start, end, pitch
        open_ties: dict[int, int] = {}
        for element in in_order(tune, voice, remarks):
            if element.kind == "note":
                ties = open_ties
                open_ties = {}
                for pitch in element.pitches:
                    at = ties.get(pitch)
                    if at is not None and spans[at][1] == time:
                        spans[at][1] = time + element.length
                    else:
                        at = len(spans)
                        spans.append([time, time + element.length, pitch])
                    if element.tied:
                        open_ties[pitch] = at
            elif element.kind == "chord":
                chords.append((time, element.value))
            elif element.kind == "metre" and number == 0:
                metres[time] = element.value
            elif element.kind == "bar" and number == 0:
                first_bar = first_bar or time
                bars.append(time)
            time += element.length
            if time * spb > LONGEST_STEPS:
                raise Refused(f"lasts more than {LONGEST_STEPS // spb:,} beats")
        if spans:
            table = np.array([[float(start * spb), float(end * spb), pitch] for start, end, pitch in spans])
            errors.append(moved(table[:, 0], spb, tune.lost))
            velocity = np.full(len(table), 80)
            notes = settle(table[:, 0], table[:, 1], table[:, 2].astype(np.int64), velocity, tune.lost)
            tracks.append(Track(number, voice.name, notes))
    if not tracks and tune.lost["drum"]:
        raise Refused(ONLY_DRUMS)
    opening = metres.pop(Fraction(0), tune.metre)
    if not usable_metre(*opening, spb):
        remarks.append(f"the metre {opening[0]}/{opening[1]} is read as 4/4: its bar isn't a whole number of steps")
        opening = (4, 4)
    bar = bar_steps(opening, spb)
    upbeat = round(first_bar * spb)
    tempo = tune.tempo or 120.0
    if not tune.tempo:
        remarks.append("no tempo in the file: 120 is assumed")
    piece = Piece("ABC", tune.title, tracks, spb, opening, key=tune.key, left_out=tune.lost, remarks=remarks)
    piece.tempo_bpm, piece.tempo_changes = tempo, tune.tempo_changes
    piece.upbeat_steps = upbeat if 0 < upbeat < bar else 0
    before = opening
    for time, metre in sorted(metres.items()):
        if metre != before and usable_metre(*metre, spb):
            piece.metre_changes.append((round(time * spb), metre))
            before = metre
    if not metres and usable_metre(*opening, spb):
        piece.remarks += uneven_bars(bars, first_bar, Fraction(*opening) * 4)
    end = piece.length_steps
    piece.chords = chord_spans([(round(time * spb), symbol) for time, symbol in chords], end)
    piece.seconds = end / spb * 60.0 / tempo
    if piece.seconds > options["max_seconds"]:
        raise Refused(f"lasts {piece.seconds:,.0f} s, longer than max_seconds={options['max_seconds']:g}")
    piece.timing_error_ms = float(np.concatenate(errors).mean()) / spb * 60_000 / tempo if errors else 0.0
    return piece
