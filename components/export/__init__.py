"""Export of models to formats of other software."""
