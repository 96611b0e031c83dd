"""The Prefect flows and the command line: the only place that knows Prefect."""
