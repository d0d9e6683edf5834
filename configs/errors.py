"""The error that a user's wrong input ends in.

Invariant: stands below every other module, so that configuration and actors raise the same class.
"""

from __future__ import annotations


class InputError(ValueError):
    """Wrong input of a user: the message is one line that names the field, the value and the remedy. Exit code 2."""
