"""What data seem to be, and the settings of a recipe that read them."""
