"""Stored sequences in batches: windows of streams, whole examples, streams side by side, strokes, forecasts."""
