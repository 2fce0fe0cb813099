"""A callback for zoo that tracks a run in MLflow."""
