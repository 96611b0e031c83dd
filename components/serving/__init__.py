"""Registered models over HTTP: requests checked and bounded, drawn together, streamed; and the playground."""
