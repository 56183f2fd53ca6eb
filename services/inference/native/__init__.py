"""The native engine: continuous batching of a local model, on CPU or CUDA.

Pure Python: `sequence`, `block_manager`, `fairness`, `tenants`, `scheduler` and `core`, which decide what runs. With
torch: `attention`, `sampling` and `runner`, which run it, and `demo`, `loader` and `build`, which find and load the
model.
"""
