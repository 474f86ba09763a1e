"""The settings: the environment and a `.env` file, read once, validated at once, frozen.

The only package that reads the environment.
"""

from broker.settings.settings import Settings, environment_name, load_settings

__all__ = ["Settings", "environment_name", "load_settings"]
