"""Readers of text: plain, labelled, tagged, parsed, parallel, and sequences of bases."""
