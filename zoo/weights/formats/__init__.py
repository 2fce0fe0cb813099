"""The formats that checkpoints come in, each read without running anything that is in the file."""
