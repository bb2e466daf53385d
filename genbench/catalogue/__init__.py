"""What there is to choose and to set: from YAML files, signatures and results, without Hydra composing anything."""
