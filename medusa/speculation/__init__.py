"""Deciding what to verify: guesses come from Medusa heads and from the request's own text.

sources/ holds what guesses, each source behind the same protocol; growth.py merges its drafts into
one candidate tree (tree.py) for each request, cost.py knows what another node costs, and drafter.py
puts them together for all running requests of a step. verify.py walks the trees. Nothing here
changes the output, and nothing that fails here ends a request (fuse.py).
"""
