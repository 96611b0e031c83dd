"""Everything Reprise knows about sequences and recurrent networks. Nothing in here knows Prefect."""
