"""Measurements of speed: `python -m benchmarks --help`. Nothing here is a test."""
