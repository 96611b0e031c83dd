"""The Prefect flows and the command line. Prefect is only used here."""
