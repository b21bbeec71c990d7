"""What a look through a store found: each damage by its name, what it costs by key, and what is whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in a store that is not what was written.

    Parameters
    ----------
    kind : str
        ``store``, ``records``, ``usage``, ``references``, ``moves``, ``segment``, ``unit``, ``model`` or ``digests``.
    where : str
    what : str
        What was expected, or what came.
    """

    kind: str
    where: str
    what: str

    def line(self) -> str:
        """In one line."""
        return f"{self.kind}: {self.where}: {' '.join(self.what.split())}"


@dataclass(frozen=True, repr=False)
class Health:
    """What `Store.check` found.

    Parameters
    ----------
    uri : str
    damages : tuple of Damage
    lost : tuple of str
        Keys of intermediates that were stored and cannot be read.
    lost_models : tuple of str
        Versions, ``model@run``, whose kept model cannot be read.
    n_whole : int
        Intermediates that are stored and whole, every byte of them.
    n_whole_models : int
    n_bytes : int
        Payload bytes that were read, held against their digests, and decoded.
    is_repaired : bool
        What is damaged was dropped; the rest opens and reads.
    """

    uri: str
    damages: tuple[Damage, ...]
    lost: tuple[str, ...]
    lost_models: tuple[str, ...]
    n_whole: int
    n_whole_models: int
    n_bytes: int
    is_repaired: bool = False

    @property
    def is_whole(self) -> bool:
        """Nothing is damaged."""
        return not self.damages

    def lines(self) -> list[str]:
        """Damage, what it costs, and what is whole."""
        found = [damage.line() for damage in self.damages]
        found += [f"lost: {key}" for key in self.lost]
        found += [f"lost: the model of {version}" for version in self.lost_models]
        found.append(
            f"whole: {self.n_whole} intermediates, {self.n_whole_models} models; "
            f"{self.n_bytes:,} bytes of payloads read and decoded"
        )
        if self.is_repaired:
            found.append("what is damaged was dropped: capture it again where it is needed")
        elif self.damages:
            found.append("mistique check URI --repair drops what is damaged, and nothing else")
        return found

    def __repr__(self) -> str:
        return "\n".join([f"{self.uri}: {'whole' if self.is_whole else f'{len(self.damages)} damaged'}", *self.lines()])
