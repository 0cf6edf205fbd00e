"""Readers of facts: logs, counters, health."""
