"""The native engine: continuous batching of a local model, on CPU or CUDA.

Pure Python: `sequence`, `block_manager`, `fairness`, `tenants`, `scheduler` and `core`, which decide what runs. With
torch: `attention`, `sampling` and `runner` run any decoder of transformers; `decoder`, `paged`, `seats`, `kernels` and
`device_runner` run Llama and GLM on CUDA, fused and recorded; `demo`, `loader`, `build` and `device` find and load the
model and put the parts together.
"""
