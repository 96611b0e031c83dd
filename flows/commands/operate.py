"""Commands that run flows without a person: schedules, workers, searches."""
