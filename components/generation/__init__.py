"""Sampling new sequences from a trained model."""
