"""Every arm of the comparison on one benchmark, over several seeds: ``python -m pipelines.benchmark --suite NAME --seeds 3``."""
