"""Jobs: co-training, warm start, evaluation, benchmark, report, and the command line."""
