"""One module per target: how verified weights become an engine that this target can serve."""
