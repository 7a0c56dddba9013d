"""The peers' workers: a module for each library, named as its package is.

They run in an interpreter of their own (`make peers`). Each does one piece of work and prints one
JSON line:

    PEERS_PYTHON -m benchmarks.peers.skrl throughput ppo --iterations 20 --warmup 3 --seed 1
"""
