"""Shared modules of the pose suite.

Poses are arrays or tensors of shape (B, T, J, C) at every boundary:
B batch, T frames, J joints, V views, C channels (2 image coordinates or 3 space coordinates).
"""
