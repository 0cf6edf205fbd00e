"""Benchmarks: bounded in count and time, on loopback only. See README.md for how to read them."""
