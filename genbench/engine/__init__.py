"""Trainer, run directory, checkpoints, averages, devices: knows no family."""
