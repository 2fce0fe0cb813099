"""Exporters: each writes a trained model as one kind of artefact, and reads it back."""
