"""The system of the paper in plain PyTorch, slow and obvious: what the Rust code is compared with.

Nothing here is shared with the Rust code. Tensors are N,C,H,W inside (PyTorch's layout) and
N,H,W,C in the files (astray's layout).
"""
