"""Time series: labelled as a whole or at each step, or to be forecast; their times, columns and gaps."""
