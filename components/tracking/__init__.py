"""Runs and models: where they are tracked and kept."""
