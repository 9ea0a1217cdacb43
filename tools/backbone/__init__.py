"""The shipped backbone: drawn pictures, training, validation. See `weights/README.md`."""
