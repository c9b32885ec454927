"""Benchmarks of AICO: runnable programs that print a table or, with `--json`, one JSON object. See README.md."""
