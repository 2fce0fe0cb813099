"""Devices: where a model runs, in which precision, and how it is stepped."""
