"""Thresholds from unrelated concepts, and the rates that they reach."""
