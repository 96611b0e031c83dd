"""Backpropagation through time by hand: forward and backward of each cell as pure functions of tensors."""
