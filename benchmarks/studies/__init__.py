"""Measurements behind single decisions: how to spread nodes over processes, how to form batches."""
