"""Training Medusa heads by self-distillation: the model's own answers are the teacher.

distill.py lets the engine write answers and records them in shards (shards.py); fit.py trains heads
on them with PyTorch, the only part that needs the [train] extra.
"""
