"""What stands between the network and the dialects: limits, each with an error of its own."""
