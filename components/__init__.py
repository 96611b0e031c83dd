"""Sequences and recurrent networks: everything except the flows. Nothing in here imports Prefect."""
