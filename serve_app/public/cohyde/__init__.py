"""What an installation is imported by: the Python client, ``from cohyde import ToolSearch``."""

from serve_app.client import *  # noqa: F403
from serve_app.client import __all__ as __all__
