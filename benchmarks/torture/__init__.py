"""What is lost in a fault. A module for each kind of thing; `lab` is where they are broken, on what."""
