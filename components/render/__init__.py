"""Outputs for people: scores, piano rolls, audio, the listening page."""
