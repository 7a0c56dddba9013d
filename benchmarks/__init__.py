"""Measures this library beside its peers: throughput, memory, time to solve."""
