"""Deciding what to verify: guesses come from Medusa heads and from the request's own text.

calibration.py says how likely a head's guess is right, lookup.py finds continuations of what was
said before, growth.py merges both into one candidate tree, cost.py knows what another node costs,
and drafter.py puts them together for all running requests of a step.
"""
