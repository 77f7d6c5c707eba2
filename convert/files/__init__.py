"""Weights as they come: checkpoints, safetensors, PyTorch files, official heads; and the disk."""
