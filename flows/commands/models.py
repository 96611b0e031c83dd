"""Commands that look after registered models."""
