"""State of MIDI channels that a reader reports: bent or retuned pitches, silence."""

from __future__ import annotations

DATA, VOLUME, EXPRESSION, SOSTENUTO, SOFT, RPN_LOW, RPN_HIGH = 6, 7, 11, 66, 67, 100, 101  # controllers
WATCHED = frozenset((DATA, VOLUME, EXPRESSION, SOSTENUTO, SOFT, RPN_LOW, RPN_HIGH))
FINE_TUNING, COARSE_TUNING = 1, 2  # registered parameters (RPN)
BENT = 1024  # of 8192 from the middle: a quarter of a semitone with the usual range of two


class Channels:
    """The channels that are bent, retuned or silenced at a time in a track."""

    def __init__(self) -> None:
        self.bent: set[int] = set()
        self.tuned: set[int] = set()
        self.silent: set[int] = set()
        self._value: dict[tuple[int, int], int] = {}  # (channel, controller) → value

    def bend(self, channel: int, by: int) -> None:
        """Pitch bend; the maximum is 8192."""
        _put(self.bent, channel, abs(by) > BENT)

    def control(self, channel: int, controller: int, value: int) -> bool:
        """Control change. Returns whether it presses the sostenuto or the soft pedal."""
        before = self._value.get((channel, controller), 0)
        self._value[channel, controller] = value
        if controller in (VOLUME, EXPRESSION):
            both = [self._value.get((channel, one), 127) for one in (VOLUME, EXPRESSION)]
            _put(self.silent, channel, 0 in both)
        elif controller == DATA and not self._value.get((channel, RPN_HIGH), 127):
            tuning = self._value.get((channel, RPN_LOW)) in (FINE_TUNING, COARSE_TUNING)
            _put(self.tuned, channel, value != 64 if tuning else channel in self.tuned)  # 64: not retuned
        return controller in (SOSTENUTO, SOFT) and before < 64 <= value


def _put(channels: set[int], channel: int, inside: bool) -> None:
    (channels.add if inside else channels.discard)(channel)
