"""The peers' workers: a module for each library, named like its package.

They run in their own interpreter (`make peers`). Each runs one workload and prints one
JSON line:

    PEERS_PYTHON -m benchmarks.peers.skrl throughput ppo --iterations 20 --warmup 3 --seed 1
"""
