"""Sequence tasks: outputs, losses and metrics."""
