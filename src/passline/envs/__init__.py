"""Plugs without arithmetic: other libraries' interfaces over the one environment."""
