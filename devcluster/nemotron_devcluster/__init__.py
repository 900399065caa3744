"""Start and stop a real Kubernetes cluster on one machine."""
