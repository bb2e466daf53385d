"""Trainer, run directory, checkpoints, averages, devices: independent of the model family."""
