"""Formats of music, each read into pieces on the grid: MIDI, ABC, MusicXML and Humdrum."""
