"""Invertible maps with one signature both ways, shared by flows and variational posteriors."""
