"""Data: distributions with exact densities, toys, and data sets with their normalisation."""
