"""What is lost when things break. A module for each kind of thing; `lab` is where they are broken, on what."""
