"""Measurements of the whole product; each module is a command, `python -m benchmarks.NAME --help`."""
