"""The settings: the environment and a `.env` file, read and validated once, and frozen.

No other package reads the environment.
"""

from broker.settings.settings import Settings, environment_name, load_database_settings, load_settings
from broker.settings.unknown import unknown_variables

__all__ = ["Settings", "environment_name", "load_database_settings", "load_settings", "unknown_variables"]
