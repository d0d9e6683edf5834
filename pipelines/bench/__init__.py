"""Benchmarks: of the parts, of overlapping stages, of the search server."""
