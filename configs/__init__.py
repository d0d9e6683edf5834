"""Settings: schema, loading, and the YAML files. Imports neither torch nor ray."""
