"""Long-lived workers of the system as plain classes; ``remote.py`` alone makes Ray actors of them."""
