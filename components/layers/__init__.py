"""Recurrent layers: one contract, many cells."""
