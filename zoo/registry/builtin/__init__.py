"""zoo's own parts, declared through the same hooks as anyone's. One file a kind: options and descriptors, nothing heavy."""
