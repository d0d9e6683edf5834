"""The comparison at the end of a run: every arm measured on test, by what, and the tables of it."""
