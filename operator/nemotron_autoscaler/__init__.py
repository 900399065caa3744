"""Decide how many replicas a load needs."""

from nemotron_autoscaler.law import Decision, Policy, Sample, decide, demand, remember

__all__ = ["Decision", "Policy", "Sample", "decide", "demand", "remember"]
