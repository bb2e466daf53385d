"""Optimizers as registered constructors over torch.optim."""
