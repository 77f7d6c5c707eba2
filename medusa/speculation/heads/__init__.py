"""Medusa heads: small networks on the model's last hidden state that guess the next tokens.

header.py and weights.py hold the file format, reading.py reads and checks it; numpy_heads.py is the
forward pass as the reference, ggml_heads.py the one that serves, and loading.py chooses.
"""
