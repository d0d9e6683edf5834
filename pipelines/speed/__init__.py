"""How fast: the parts, overlapping stages, the search server. How good is measured in ``pipelines/benchmark/``."""
