"""Scores as MusicXML, by music21: the same score and record give the same bytes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from components.harmony import written_kind
from components.render.channels import CHANNELS, Shared
from components.render.keys import estimate_key, spelling
from components.render.layout import Bar, bars, score_end
from components.render.record import Record, embed_marker, printable
from components.render.swing import evened
from components.score import Note, Part, Score

if TYPE_CHECKING:
    from music21 import clef, key, note, pitch, stream

Event = tuple[int, int, tuple[int, ...]]  # start, end, pitches


def write_musicxml(score: Score, path: Path, record: Record | None = None) -> None:
    """Write notation as MusicXML: bars, ties, rests, clefs, an estimated key and pitches spelled in it. Swing becomes
    even eighths with the word "Swing" above.

    The record is a miscellaneous field of the identification.

    Raises:
        UserError: the score can't be rendered or the record isn't JSON-ready.
    """
    from music21.musicxml.m21ToXml import ScoreExporter

    score_end(score)  # raises for scores that can't be written
    even = evened(score)
    exporter = ScoreExporter(_notated(even, record, "Swing" if even is not score else ""))
    exporter.midiChannelList = Shared()
    exporter.parse()
    # Removed: the date on which music21 ran, so that the same score gives the same bytes; the natural sign of a chord's
    # root in a flat key, which would be shown (B♮7); degrees that the chord symbol already names.
    unwanted = rb"\s*<(encoding-date)>[^<]*</\1>|\s*<((?:root|bass)-alter)>0</\2>"
    content = re.sub(unwanted, b"", exporter.asBytes())
    Path(path).write_bytes(content.replace(b"<degree>", b'<degree print-object="no">'))


def _notated(score: Score, record: Record | None, manner: str = "") -> stream.Score:
    from music21 import expressions, instrument, layout, metadata, stream, tempo

    found = estimate_key(score)
    names = spelling(found.sharps, found.mode)
    whole = stream.Score(id="score")
    whole.metadata = metadata.Metadata(title=printable(score.title) or "Untitled")
    whole.metadata.composer = printable(f"Reprise, {record['model']}" if record and "model" in record else "Reprise")
    if record is not None:
        whole.metadata.addCustom("reprise-record", embed_marker(record))
    for index, part in enumerate(score.parts, start=1):
        staff = stream.Part(id=f"P{index}")
        sound = instrument.instrumentFromMidiProgram(part.program)
        # parts are written at concert pitch: a saxophone's part marked as transposed would be played a ninth too low
        sound.transposition = None
        # without these music21 draws random identifiers
        sound.partId, sound.instrumentId = f"P{index}", f"I{index}"
        sound.midiChannel = CHANNELS[(index - 1) % len(CHANNELS)] - 1  # counted from 0 here
        staff.partName = sound.partName = printable(part.name) or f"Part {index}"
        staff.partAbbreviation = sound.partAbbreviation = staff.partName[: 1 if _initials_differ(score) else 3] + "."
        staff.insert(0, sound)
        for measure in _measures(score, part, found, names):
            staff.append(measure)
        if index == 1:
            _add_chords(score, staff, names)
        if index == 1 and staff.hasMeasures():
            staff[stream.Measure].first().insert(0, tempo.MetronomeMark(number=score.tempo_bpm))
            if manner:
                words = expressions.TextExpression(manner)
                words.placement = "above"
                staff[stream.Measure].first().insert(0, words)
        whole.insert(0, staff)
    if len(score.parts) > 1:
        whole.insert(0, layout.StaffGroup(list(whole.parts), symbol="bracket", barTogether=False))
    return whole


# MusicXML's names of chord kinds (as music21 spells them).
_KINDS = {
    "maj": "major", "min": "minor", "7": "dominant-seventh", "m7": "minor-seventh", "maj7": "major-seventh",
    "dim": "diminished", "m7b5": "half-diminished-seventh", "dim7": "diminished-seventh", "aug": "augmented",
    "6": "major-sixth", "m6": "minor-sixth", "mmaj7": "minor-major-seventh", "9": "dominant-ninth",
    "m9": "minor-ninth", "maj9": "major-ninth", "13": "dominant-13th", "m13": "minor-13th", "maj13": "major-13th",
    "m11": "minor-11th", "sus4": "suspended-fourth", "sus2": "suspended-second", "5": "power",
    "7#5": "augmented-seventh", "maj7#5": "augmented-major-seventh",
}  # fmt: skip
# Chords written as a named chord with added or altered degrees: (degree, semitones).
_ALTERED = {
    "7b9": ("dominant-seventh", ((9, -1),)), "7#9": ("dominant-seventh", ((9, 1),)),
    "7#11": ("dominant-seventh", ((11, 1),)), "7b13": ("dominant-seventh", ((13, -1),)),
    "7alt": ("dominant-seventh", ((9, -1), (13, -1))), "13b9": ("dominant-13th", ((9, -1),)),
    "maj7#11": ("major-seventh", ((11, 1),)), "69": ("major-sixth", ((9, 0),)), "m69": ("minor-sixth", ((9, 0),)),
    "add9": ("major", ((9, 0),)), "madd9": ("minor", ((9, 0),)), "9sus4": ("suspended-fourth", ((7, -1), (9, 0))),
    "7sus4": ("suspended-fourth", ((7, -1),)), "7b5": ("dominant-seventh", ((5, -1),)),
}  # fmt: skip


def _add_chords(score: Score, staff: stream.Part, names: dict[int, str]) -> None:
    """Add the score's chord symbols above the staff, each in the bar where it begins."""
    from music21 import harmony, stream

    measures = list(staff.getElementsByClass(stream.Measure))
    places = bars(score)
    for chord in score.chords:
        index = next((i for i, bar in enumerate(places) if bar.start <= chord.start < bar.end), None)
        if index is None:
            continue
        kind, altered = _ALTERED.get(chord.kind, (_KINDS.get(chord.kind, "dominant-seventh"), ()))
        symbol = harmony.ChordSymbol(
            root=names[chord.root], kind=kind, bass=None if chord.bass is None else names[chord.bass],
            kindStr=written_kind(chord.kind),
        )  # fmt: skip
        for degree, semitones in altered:
            change = harmony.ChordStepModification("alter" if degree == 5 else "add", degree, semitones)
            symbol.addChordStepModification(change, updatePitches=False)
        symbol.writeAsChord = False
        measures[index].insert(Fraction(chord.start - places[index].start, score.steps_per_beat), symbol)


def _initials_differ(score: Score) -> bool:
    initials = [printable(part.name)[:1] for part in score.parts]
    return all(initials) and len(set(initials)) == len(initials)


def _measures(score: Score, part: Part, found: key.Key, names: dict[int, str]) -> Iterator[stream.Measure]:
    """The part's bars in order, with voices where notes overlap without being a chord."""
    from music21 import bar, key, meter, stream

    voices = _voices(part.notes)
    layout = bars(score)
    metre = None
    for here in layout:
        start, end = here.start, here.end
        measure = stream.Measure(number=here.number)
        if metre is None:
            measure.append([_clef(part), key.KeySignature(found.sharps)])
        if here.metre != metre:
            metre = here.metre
            measure.append(meter.TimeSignature("/".join(map(str, metre))))
        missing = here.full - (end - start)
        if here.number == 0:
            measure.paddingLeft = float(Fraction(missing, score.steps_per_beat))
            measure.showNumber = stream.enums.ShowNumber.NEVER
        elif missing == score.upbeat_steps % score.bar_steps or here is not layout[-1]:
            # completed by the upbeat, or cut by a change of the metre
            measure.paddingRight = float(Fraction(missing, score.steps_per_beat))
        else:
            end = start + here.full
        heard = [[event for event in voice if event[0] < end and event[1] > start] for voice in voices]
        heard = [voice for voice in heard if voice] or [[]]
        for index, events in enumerate(heard, start=1):
            target = measure if len(heard) == 1 else stream.Voice(id=str(index))
            for element in _elements(score, events, here._replace(end=end), names):
                target.append(element)
            if target is not measure:
                measure.insert(0, target)
        if here is layout[-1]:
            measure.rightBarline = bar.Barline("final")
        yield measure


def _voices(notes: tuple[Note, ...]) -> list[list[Event]]:
    """Notes grouped into chords (same start and length), and these into as few non-overlapping voices as possible."""
    chords: dict[tuple[int, int], set[int]] = defaultdict(set)
    for note in notes:
        chords[note.start, note.start + note.duration].add(note.pitch)
    voices: list[list[Event]] = []
    for (start, end), pitches in sorted(chords.items()):
        free = next((voice for voice in voices if voice[-1][1] <= start), None)
        if free is None:
            voices.append(free := [])
        free.append((start, end, tuple(sorted(pitches))))
    return voices


def _elements(score: Score, events: list[Event], bar: Bar, names: dict[int, str]) -> Iterator[note.GeneralNote]:
    """Notes, chords and rests that fill the bar, each of a length that one symbol can show."""
    from music21 import chord, note, tie

    start, end = bar.start, bar.end
    origin = start if bar.number else end  # an upbeat's beats are counted back from the bar line

    def quarters(begin: int, stop: int) -> list[Fraction]:
        signs = _signs(begin - origin, stop - begin, score.steps_per_beat, bar.beat)
        return [Fraction(length, score.steps_per_beat) for length in signs]

    if not events and end - start == bar.full:
        yield note.Rest(quarterLength=Fraction(end - start, score.steps_per_beat), fullMeasure=True)
        return
    if not events:  # a single whole rest in an incomplete bar would be read as a full bar's: write two rests
        cut = min(end, start + bar.beat)
        events = [(cut, cut, ())]
    at = start
    for begin, stop, pitches in events:
        first, last = max(begin, start), min(stop, end)
        yield from (note.Rest(quarterLength=length, fullMeasure=False) for length in quarters(at, first))
        lengths = quarters(first, last)
        for index, length in enumerate(lengths):
            spelled = [_pitch(pitch, names[pitch % 12]) for pitch in pitches]
            one = len(spelled) == 1
            sound = note.Note(spelled[0], quarterLength=length) if one else chord.Chord(spelled, quarterLength=length)
            before, after = index > 0 or begin < start, index < len(lengths) - 1 or stop > end
            if before or after:
                sound.tie = tie.Tie("continue" if before and after else "stop" if before else "start")
            yield sound
        at = last
    yield from (note.Rest(quarterLength=length, fullMeasure=False) for length in quarters(at, end))


def _signs(at: int, length: int, steps_per_beat: int, beat: int) -> list[int]:
    """Cut `length` steps, beginning `at` steps after a bar line, into lengths that a single symbol can show.

    Cuts fall on beats where possible; a note that begins off the beat and lasts longer than one beat is cut at the
    next beat, for readability.
    """
    if length <= 1:
        return [1] * length
    if (length <= beat or at % beat == 0) and _one_sign(Fraction(length, steps_per_beat)):
        return [length]
    to_beat = beat - at % beat
    if to_beat < length and at % beat:
        head = to_beat
    elif length > beat:
        head = length - (at + length) % beat  # whole beats, then the rest
        if head == length:
            head = next(
                n for n in range(length - beat, 0, -beat) if n == beat or _one_sign(Fraction(n, steps_per_beat))
            )
    else:
        head = next(n for n in range(length - 1, 0, -1) if n == 1 or _one_sign(Fraction(n, steps_per_beat)))
    return _signs(at, head, steps_per_beat, beat) + _signs(at + head, length - head, steps_per_beat, beat)


@cache
def _one_sign(quarters: Fraction) -> bool:
    """Whether one note symbol with at most one dot, alone or in a triplet, lasts this many quarter notes."""
    for factor in (1, Fraction(2, 3), Fraction(3, 2)):
        numerator, denominator = (quarters * factor).as_integer_ratio()
        plain = numerator & (numerator - 1) == 0 and denominator & (denominator - 1) == 0
        if plain and Fraction(1, 16) <= quarters <= 8:
            return True
    return False


def _pitch(midi: int, name: str) -> pitch.Pitch:
    """The pitch `midi` spelled as `name`: B♯ belongs to the octave below its sound, C♭ to the one above."""
    from music21 import pitch

    spelled = pitch.Pitch(name, octave=4)
    spelled.octave += (midi - spelled.midi) // 12
    return spelled


def _clef(part: Part) -> clef.Clef:
    """The clef of a part: by name for choral voices, else by the range of most of its notes."""
    from music21 import clef

    name = part.name.casefold()
    if "tenor" in name:
        return clef.Treble8vbClef()
    if "soprano" in name or "alto" in name:
        return clef.TrebleClef()
    pitches = sorted(note.pitch for note in part.notes) or [60]
    return clef.BassClef() if "bass" in name or pitches[len(pitches) // 2] < 57 else clef.TrebleClef()
