"""Heads: from a backbone's features to logits, a loss and metrics."""
