"""Several replicas of a model on Ray Serve, behind one front; see docs/cluster.md."""
