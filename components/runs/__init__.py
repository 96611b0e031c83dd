"""A run's life on this machine, without Prefect: where things lie, its record, its steps, and what is made of it."""
