"""How a family learns and what it is judged by."""
