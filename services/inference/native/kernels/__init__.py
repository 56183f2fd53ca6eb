"""Triton kernels of the CUDA path. They need Triton, which torch brings for CUDA, and run in its interpreter too."""
