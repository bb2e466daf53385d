"""One small class per formulation, headed by its equation and paper; never touches an optimizer."""
