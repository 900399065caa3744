"""Build manifests: one module per kind, each with a pure `build` that may decline by returning None."""
