"""Kernels compiled ahead of time, and the engine that drives every backend."""
