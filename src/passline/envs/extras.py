"""What a plug says when the library it plugs into is not installed."""

__all__ = ["missing"]


def missing(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """Returns the error to raise instead, which tells how to install the extra."""
    name = str(error.name).partition(".")[0]
    return ModuleNotFoundError(
        f"passline.envs: {name} is not installed, and this plug needs it. Install it with: "
        f'pip install "passline[{extra}]"',
        name=name,
    )
