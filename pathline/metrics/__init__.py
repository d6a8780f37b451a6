"""Metrics: samples in, a number out."""
