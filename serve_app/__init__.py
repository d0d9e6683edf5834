"""Serving: the newest promoted release behind Ray Serve."""
