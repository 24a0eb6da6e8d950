"""What things cost beside their floor; each module prints JSON rows. Run one with `python -m benchmarks.NAME`."""
