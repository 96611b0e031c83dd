"""Readers of music: scores, performances, piano rolls, and corpora of tunes, chorales and solos."""
