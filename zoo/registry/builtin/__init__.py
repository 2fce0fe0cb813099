"""zoo's own parts, declared through the same hooks as anyone's: options and descriptors, one file a kind."""
