"""Recordings: sound with its transcripts, video, and pen strokes."""
