"""genbench: one bench for the classic deep generative models."""
