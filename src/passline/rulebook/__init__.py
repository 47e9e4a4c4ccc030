"""What a firm demands, as data. Knows nothing of bars and nothing of the simulator."""

from passline.rulebook.catalog import list_rulebooks, load_rulebook
from passline.rulebook.describe import Row, describe
from passline.rulebook.model import Rulebook

__all__ = ["Row", "Rulebook", "describe", "list_rulebooks", "load_rulebook"]
