"""Data sets as tensors: splits, checksums, batches."""
