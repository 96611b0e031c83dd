"""Tables: labelled examples, columns of measurements, and the tables of R."""
