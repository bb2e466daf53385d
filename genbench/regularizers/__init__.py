"""Penalties on the critic, headed by their equation and paper."""
