"""ONNX artefacts for zoo: a graph in float32, and one quantised to 8 bits."""
