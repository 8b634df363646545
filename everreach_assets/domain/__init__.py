"""Decisions in plain Python: no Dagster, no driver, no environment, no clock (`now` is an argument)."""
