"""Models built from layers."""
