"""Poisoned training data and backdoored networks: made on purpose, measured, found, cured."""
