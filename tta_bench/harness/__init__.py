"""Harness: everything that touches clock, disk and progress around the pure parts below it."""
