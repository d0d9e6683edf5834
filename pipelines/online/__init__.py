"""What only the continual mode needs: the query log in, units out, drift watched, pairs judged, tenants forgotten."""
