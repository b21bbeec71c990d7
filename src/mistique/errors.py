"""Every exception and warning that mistique raises.

::

    MistiqueError
      CodecError
        UnknownCodecError          (LookupError)
        NotEncodableError          (ValueError)
      StoreError
        ChunkCorruptError
        FormatVersionError
        StoreNotFoundError         (LookupError)
        StoreReadOnlyError
        StoreClosedError
        StoreKeyError
        CaptureLostError
        BudgetError
        IndexTooLargeError
      CatalogError
        IntermediateNotFoundError  (LookupError)
        InvalidKeyError            (ValueError)
      PlanError
        NoPlanError
      RecomputeError
        ModelMismatchError
        UntrustedArtifactError
      CaptureError                 (ValueError)
      QueryError                   (ValueError)
      MissingExtraError            (ImportError)
    MistiqueWarning                (UserWarning)
      CaptureWarning
      EnvironmentWarning

Each message says what was expected, what came, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class MistiqueError(Exception):
    """Base of every error that mistique raises."""


class CodecError(MistiqueError):
    """A codec could not be found or could not be applied."""


class UnknownCodecError(CodecError, LookupError):
    """No codec has that name."""

    def __init__(self, *, name: object, known: Iterable[str]) -> None:
        super().__init__(f"expected a codec, one of {', '.join(sorted(known))}; got {name!r}")


class NotEncodableError(CodecError, ValueError):
    """Values that no cell type of a store can hold."""

    def __init__(self, *, what: str, found: str, hint: str) -> None:
        super().__init__(f"{what} cannot be stored: found {found}. {hint}")


class StoreError(MistiqueError):
    """A store could not be opened, read or written."""


class ChunkCorruptError(StoreError):
    """Bytes in a store are not the bytes that were written."""

    def __init__(self, *, where: str, expected: str, got: str) -> None:
        super().__init__(
            f"damaged store: {where}: expected {expected}, got {got}. Restore it from a copy, or let "
            "`mistique check URI --repair` drop what is damaged and capture that again; other intermediates can still "
            "be read"
        )


class FormatVersionError(StoreError):
    """A store was written in a format that this version of mistique cannot read."""

    def __init__(self, *, uri: str, found: object, readable: int, read_by: str = "") -> None:
        by = f" (mistique {read_by} or later does)" if read_by else ""
        wanted = f'"mistique>={read_by}"' if read_by else "mistique"
        super().__init__(
            f"{uri} has store format {found}, this mistique reads formats up to {readable}{by}: pip install -U {wanted}"
        )


class StoreNotFoundError(StoreError, LookupError):
    """There is no store at a URI."""

    def __init__(self, *, uri: str, found: str) -> None:
        super().__init__(
            f"expected a mistique store at {uri}, found {found}. Give the path that was passed to "
            'mistique.open(...) at capture, or open it with mode="a" to make a new store'
        )


class StoreReadOnlyError(StoreError):
    """A write was asked of a store that was opened to look only."""

    def __init__(self, *, uri: str, action: str) -> None:
        super().__init__(f'cannot {action}: {uri} was opened with mode="r"; open it with mode="a"')


class StoreClosedError(StoreError):
    """A closed store was used, or one that a fork carried into a child process."""

    def __init__(self, *, uri: str, reason: str) -> None:
        super().__init__(f"store {uri} is closed: {reason}. Open it again with mistique.open({uri!r})")


class StoreKeyError(StoreError):
    """A store was opened with another key than it was made with, or without one, or with something that is no key."""

    def __init__(self, *, uri: str, expected: str, got: str) -> None:
        super().__init__(
            f"{uri}: expected {expected}, got {got}. Give the key that it was made with: "
            'mistique.open(uri, key="env:NAME"), key="file:PATH", or a function that returns it; of a command, '
            "mistique --key env:NAME"
        )


class CaptureLostError(StoreError):
    """Nobody can say whether a capture is in the store; if it is seen there, it is whole."""

    def __init__(self, *, model: str, dataset: str, why: str = "") -> None:
        reason = why or (
            "a compaction removed what it uses while it was committed. Give compact() a longer grace_seconds than "
            "captures take"
        )
        super().__init__(
            f"the capture of {model} over dataset {dataset!r} cannot be relied upon; capture again: {reason}"
        )


class BudgetError(StoreError):
    """A store cannot be made as small as was asked."""

    def __init__(self, *, uri: str, max_nbytes: int, nbytes: int, reasons: Mapping[str, str]) -> None:
        shown = [f"{key} {why}" for key, why in list(reasons.items())[:5]]
        more = [f"and {len(reasons) - 5} more"] if len(reasons) > 5 else []
        super().__init__(
            f"{uri} needs {nbytes:,} bytes, more than the {max_nbytes:,} it may take, kept models included, and the "
            f"rest has to stay: {'; '.join([*shown, *more]) or 'there is nothing else'}. Unpin something, drop what "
            "nobody needs, or give mistique.open a larger max_nbytes"
        )


class IndexTooLargeError(StoreError):
    """An index would take more bytes than it may."""

    def __init__(self, *, name: str, nbytes: int, float32_nbytes: int, max_share: float) -> None:
        super().__init__(
            f"the index of {name!r} would take about {nbytes:,} bytes, {nbytes / max(float32_nbytes, 1):.3f} of its "
            f"values as float32: more than max_share={max_share:g}. Give a larger max_share, or do without: questions "
            "are answered from what is stored"
        )


class CatalogError(MistiqueError):
    """The catalog does not hold what was asked."""


class IntermediateNotFoundError(CatalogError, LookupError):
    """No model, version, dataset or intermediate has that name."""

    def __init__(self, *, what: str, name: str, known: Iterable[str]) -> None:
        names = list(dict.fromkeys(known))
        nearest = get_close_matches(name, names, n=3, cutoff=0.5) or names[:6]
        listed = ", ".join(nearest) if nearest else "nothing has been captured yet"
        super().__init__(f"no {what} {name!r}; nearest: {listed}")


class InvalidKeyError(CatalogError, ValueError):
    """Text that is not a key."""

    def __init__(
        self,
        *,
        text: object,
        expected: str = "a key project/model@version/dataset/intermediate, for example homes/ridge@latest/train/scale",
    ) -> None:
        super().__init__(f"expected {expected}; got {text!r}. In a name write %2F for '/', %40 for '@', %25 for '%'")


class PlanError(MistiqueError):
    """A question could not be planned."""


class NoPlanError(PlanError):
    """Neither reading nor recomputing can answer."""

    def __init__(self, *, key: str, reasons: Iterable[str]) -> None:
        self.why = "; ".join(reasons)
        super().__init__(f"nothing can answer {key}: {self.why}")


class RecomputeError(MistiqueError):
    """A model could not be run again."""


class ModelMismatchError(RecomputeError):
    """A model and the data given to it do not fit."""

    def __init__(self, *, model: str, expected: str, got: str, hint: str) -> None:
        super().__init__(f"model {model} expected {expected}, got {got}. {hint}")


class UntrustedArtifactError(RecomputeError):
    """A model in a store was not signed by this user and would run code when loaded."""

    def __init__(self, *, model: str, kind: str, types: Iterable[str]) -> None:
        named = ", ".join(sorted(types)) or "any Python code"
        super().__init__(
            f"model {model} ({kind}) was not signed with this user's key, and loading it can run: {named}. "
            "What is stored can still be read. If you trust who wrote it: mistique.open(uri, trust=True), "
            "or trust=[...] with a list of those types"
        )


class CaptureError(MistiqueError, ValueError):
    """What was given to a capture cannot be captured."""


class QueryError(MistiqueError, ValueError):
    """A question that makes no sense for the intermediate it was asked of."""


class MissingExtraError(MistiqueError, ImportError):
    """A library that is needed for what was asked is not installed."""

    def __init__(self, *, what: str, package: str, extra: str) -> None:
        super().__init__(f'{what} needs {package}, which is not installed: pip install "mistique[{extra}]"')


class MistiqueWarning(UserWarning):
    """Base of every warning that mistique gives."""


class CaptureWarning(MistiqueWarning):
    """Something was not stored; the model went on."""


class EnvironmentWarning(MistiqueWarning):
    """A model is run again by other versions of libraries than it was captured with."""
