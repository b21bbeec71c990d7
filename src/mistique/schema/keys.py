"""How a store names what it holds: keys, paths within a model, and the names that mean something of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from mistique.errors import CaptureError, InvalidKeyError

INPUT, TARGET, PREDICTION, ROW_LABEL = "input", "target", "prediction", "row_label"
RESERVED_NAMES = (INPUT, TARGET, PREDICTION, ROW_LABEL)
LATEST = "latest"


def escape(name: str) -> str:
    """One segment of a key: RFC 3986 percent-encoding of everything but letters, digits and ``-._~+=,:()[]``.

    Examples
    --------
    >>> escape("scale / café@2")
    'scale%20%2F%20caf%C3%A9%402'
    """
    return quote(name, safe="-._~+=,:()[]")


@dataclass(frozen=True, slots=True)
class Key:
    """The name of an intermediate, of a dataset of a version, of a version, or of a model.

    ``project/model@version/dataset/intermediate``. The version is a run number, ``run.epoch`` for a checkpoint, or
    ``latest``. An intermediate inside a nested model or pipeline has a path with ``/``.

    Examples
    --------
    >>> key = Key.parse("homes/ridge@2/train/prepare/num/scale")
    >>> key.model, key.version, key.dataset, key.intermediate
    ('homes/ridge', '2', 'train', 'prepare/num/scale')
    >>> Key.parse("homes/ridge")
    Traceback (most recent call last):
    ...
    mistique.errors.InvalidKeyError: expected a key project/model@version/dataset/intermediate, ...
    """

    model: str
    version: str
    dataset: str
    intermediate: str

    @classmethod
    def parse(cls, text: str | Key) -> Key:
        """The key that a text spells; a `Key` comes back as it is."""
        if isinstance(text, Key):
            return text
        if not isinstance(text, str) or text.count("@") != 1:
            raise InvalidKeyError(text=text)
        model, _, rest = text.partition("@")
        version, _, rest = rest.partition("/")
        dataset, _, intermediate = rest.partition("/")
        if not (model and version and dataset and intermediate):
            raise InvalidKeyError(text=text)
        return cls(unescape_path(model), unquote(version), unquote(dataset), unescape_path(intermediate))

    @classmethod
    def parse_version(cls, text: str) -> Key:
        """The key of a version alone that a text spells, with no dataset and no intermediate.

        Examples
        --------
        >>> Key.parse_version("homes/ridge@2").version
        '2'
        >>> Key.parse_version("homes/ridge@2/train")
        Traceback (most recent call last):
        ...
        mistique.errors.InvalidKeyError: expected a version project/model@version, for example homes/ridge@latest; ...
        """
        model, _, version = text.partition("@") if isinstance(text, str) else ("", "", "")
        if not (model and version) or set(version) & set("@/"):
            raise InvalidKeyError(text=text, expected="a version project/model@version, for example homes/ridge@latest")
        return cls(unescape_path(model), unquote(version), "", "")

    def __str__(self) -> str:
        model, intermediate = escape_path(self.model), escape_path(self.intermediate)
        return f"{model}@{self.version}/{escape(self.dataset)}/{intermediate}"

    def at(self, intermediate: str) -> Key:
        """The key of another intermediate of the same version and dataset."""
        return replace(self, intermediate=intermediate)


def check_names(*, model: object, dataset: object) -> None:
    """See that a model and a data set can be asked for under the names that they are captured under.

    Raises
    ------
    CaptureError
    """
    if not model or not isinstance(model, str) or "@" in model:
        raise CaptureError(
            f"expected the name of a model in the store, without '@', for example model=\"homes/ridge\"; got {model!r}"
        )
    if not dataset or not isinstance(dataset, str) or "/" in dataset:
        raise CaptureError(f"dataset: expected a name without a slash, such as 'train'; got {dataset!r}")


# Inside the package a path joins names with "/" and a "/" within a name is "%2F": the path alone stays unambiguous.
def join_path(*names: str) -> str:
    """One path from the names of nested stages or layers; a ``/`` or ``%`` within a name is percent-encoded."""
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in names)


def escape_path(path: str) -> str:
    """A path as keys spell it."""
    return "/".join(escape(unquote(part)) for part in path.split("/"))


def unescape_path(text: str) -> str:
    """The path that a key spells."""
    return join_path(*(unquote(part) for part in text.split("/")))
