"""What no slot holds any more, kept in RAM and on disk to be computed never again."""
