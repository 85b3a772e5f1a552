"""Gradients, Hessians and softmax of logits, and their loop over tiles."""
