"""The wire formats: what is common to all in `dialect`, a package for each."""
