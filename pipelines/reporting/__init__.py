"""What reports show: figures out of a run's records, plots of them, and the page they stand on."""
