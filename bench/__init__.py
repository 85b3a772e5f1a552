"""Benchmarks of fastent: speed against the read limit of the machine and against other libraries."""
