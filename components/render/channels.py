"""MIDI channels of the parts of a score; those beyond the fifteenth share them."""

from __future__ import annotations

from components.drums import CHANNEL

CHANNELS = [channel for channel in range(1, 17) if channel != CHANNEL + 1]  # General MIDI's drum channel


class Shared(list):
    """For music21: channels of which none is taken. It would print a warning for each part beyond the fifteenth."""

    def __contains__(self, channel: object) -> bool:
        return False
