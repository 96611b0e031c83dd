"""Using a trained model; shared by the command line, Python and HTTP."""
