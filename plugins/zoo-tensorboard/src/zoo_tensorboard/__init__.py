"""A callback for zoo that shows a run in TensorBoard."""
