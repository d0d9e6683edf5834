"""Catalog and query sources, one file each."""
