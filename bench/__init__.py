"""Benchmarks: each `python -m bench.NAME` measures one thing as ratios in one run. See README.md beside this file."""
