"""Train trading agents that pass prop-firm evaluations, and say honestly whether they will.

Importing the package is cheap: JAX is loaded by the rooms that compute with it.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
