"""Evaluation, its metrics and its reports."""
