"""Scores as standard MIDI files, by music21: the same score and record give the same bytes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from components.drums import CHANNEL
from components.render.channels import CHANNELS
from components.render.keys import estimate_key
from components.render.layout import metres, score_end
from components.render.record import Record, embed_marker, printable
from components.score import Part, Score

if TYPE_CHECKING:
    from music21 import midi

SUSTAIN = 64  # the controller of the sustain pedal


def write_midi(score: Score, path: Path, record: Record | None = None) -> None:
    """Write a standard MIDI file: a conductor track, then one track and channel per part. Drums are on channel 10; the
    sustain pedal is controller 64.

    The record is a text event in the conductor track. Parts beyond the fifteenth share channels.

    Raises:
        UserError: the score can't be rendered or the record isn't JSON-ready.
    """
    from music21 import instrument, key, meter, midi, note, stream, tempo
    from music21.midi.translate import streamToMidiFile

    score_end(score)  # raises for scores that can't be written
    whole = stream.Score()
    for part in score.parts:
        track = stream.Part()
        track.insert(0, instrument.instrumentFromMidiProgram(part.program))
        for n in part.notes:
            sounding = note.Note(n.pitch, quarterLength=Fraction(n.duration, score.steps_per_beat))
            sounding.volume.velocity = n.velocity
            track.insert(Fraction(n.start, score.steps_per_beat), sounding)
        whole.insert(0, track)
    conductor = whole.parts.first() or stream.Part()
    upbeat = _upbeat_metre(score)
    conductor.insert(0, tempo.MetronomeMark(number=score.tempo_bpm))
    conductor.insert(0, key.KeySignature(estimate_key(score).sharps))
    if upbeat:
        conductor.insert(0, meter.TimeSignature(upbeat))
    for number, (step, (beats, unit)) in enumerate(metres(score)):
        at = step if upbeat or number else 0
        conductor.insert(Fraction(at, score.steps_per_beat), meter.TimeSignature(f"{beats}/{unit}"))
    if not score.parts:
        whole.insert(0, conductor)
    file = streamToMidiFile(whole)

    def text(track: midi.MidiTrack, kind: midi.MetaEvents, value: str) -> list[midi.MidiEvent]:
        event = midi.MidiEvent(track, type=kind)
        event.data = value.encode()
        return [midi.DeltaTime(track), event]

    head, voices = file.tracks[0], file.tracks[1:]
    names = midi.MetaEvents.SEQUENCE_TRACK_NAME
    for index, (track, part) in enumerate(zip(voices, score.parts, strict=bool(score.parts))):
        # music21 gives parts with the same instrument one channel: the first note-off would end a unison in both
        track.setChannel(CHANNEL + 1 if part.role == "drums" else CHANNELS[index % len(CHANNELS)])
        track.events = [*text(track, names, printable(part.name)), *_without(track.events, names)]
        if part.pedal:
            _press(track, part, score.steps_per_beat)
    head.events = [*text(head, names, printable(score.title)), *head.events] if score.title else head.events
    if record is not None:
        # before the end-of-track event and its delta time
        head.events[-2:-2] = text(head, midi.MetaEvents.TEXT_EVENT, embed_marker(record))
    Path(path).write_bytes(file.writestr())


def _press(track: midi.MidiTrack, part: Part, steps_per_beat: int) -> None:
    """Add the sustain pedal to a track. At equal times, releases come before notes and presses after them."""
    from music21 import defaults, midi

    ticks = Fraction(defaults.ticksPerQuarter, steps_per_beat)
    moves = [(down, 2, 127) for down, _ in part.pedal] + [(up, 0, 0) for _, up in part.pedal]
    timed, now = [], 0
    for wait, event in zip(track.events[::2], track.events[1::2], strict=True):
        now += wait.time
        timed.append((now, 3 if event.type is midi.MetaEvents.END_OF_TRACK else 1, event))
    channel = next(event.channel for _, _, event in timed if event.channel)
    for step, order, value in moves:
        event = midi.MidiEvent(track, type=midi.ChannelVoiceMessages.CONTROLLER_CHANGE, channel=channel)
        event.parameter1, event.parameter2 = SUSTAIN, value
        timed.append((max(int(step * ticks), 0), order, event))
    end = max(at for at, _, _ in timed)
    ordered = sorted(((end if order == 3 else at, order, event) for at, order, event in timed), key=lambda row: row[:2])
    track.events, now = [], 0
    for at, _, event in ordered:
        wait = midi.DeltaTime(track)
        wait.time, now = at - now, at
        track.events += [wait, event]


def _without(events: list, kind: object) -> list:
    """MIDI events (pairs of delta time and event) without those of a kind, which are at time 0."""
    pairs = zip(events[::2], events[1::2], strict=True)
    return [item for pair in pairs if pair[1].type is not kind for item in pair]


def _upbeat_metre(score: Score) -> str | None:
    """The upbeat as a separate metre, which notation programs write into MIDI to place the bar lines."""
    length = Fraction(score.upbeat_steps % score.bar_steps, 4 * score.steps_per_beat)
    if not length or length.denominator & (length.denominator - 1):
        return None
    unit = max(length.denominator, score.metre[1])
    return f"{length * unit}/{unit}"
