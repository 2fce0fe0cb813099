"""Hugging Face for zoo: data sets of `datasets`, image classifiers of `transformers`, and their weights."""
