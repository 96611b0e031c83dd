"""The steps of a run on this machine, without Prefect: places, records, training, evaluation, registration, studies,
reports."""
