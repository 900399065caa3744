"""Turn a checkpoint into a sealed engine: what the build Job runs."""
