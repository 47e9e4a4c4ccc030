"""What a firm demands, as data. Knows nothing of bars and nothing of the simulator."""

from passline.rulebook.catalog import list_rulebooks, load_rulebook
from passline.rulebook.model import Rulebook

__all__ = ["Rulebook", "list_rulebooks", "load_rulebook"]
