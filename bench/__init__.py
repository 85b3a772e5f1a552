"""Benchmarks of fastent: speed against the machine's read limit and against other libraries."""
