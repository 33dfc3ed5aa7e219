"""Theorems about memorization and simulations that could contradict them."""
