"""The model of `benchmarks/peer.py`, which trains and times it; imports nothing of this repository."""
