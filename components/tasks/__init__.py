"""Sequence tasks: what is predicted, what is lost, what is measured."""
