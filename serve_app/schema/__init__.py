"""What goes over the wire. Invariants: unknown fields of a request are refused; times are milliseconds."""
