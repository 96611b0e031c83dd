"""Commands that serve models over HTTP."""
