"""Where guesses come from: source.py says what a source is, the others each are one."""
