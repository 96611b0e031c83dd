"""Using a trained model, the same from every door: the command line, Python and HTTP."""
