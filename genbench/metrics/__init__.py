"""Measures of quality of trained models."""
