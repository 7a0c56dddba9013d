"""Compares this library with its peers: throughput, memory, time to solve."""
