"""Variational auto-encoders: how they learn, are judged and are drawn."""
