"""The backbone `astray-b0`: drawn pictures, training, validation. See `weights/README.md`."""
