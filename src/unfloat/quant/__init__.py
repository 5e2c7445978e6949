"""Choosing ranges, by calibration or by training. Needs PyTorch, except for the Recipe."""
