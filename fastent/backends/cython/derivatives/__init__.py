"""Gradients, Hessians and softmax of logits, and their loop over tiles.

May import: tiles, kernels, arithmetic, levels, threads.
"""
