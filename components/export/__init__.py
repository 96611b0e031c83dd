"""Models in the forms that other software reads."""
