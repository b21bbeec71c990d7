"""What is stored of each intermediate of a capture, and by which codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mistique.codecs import Codec, Policy, Summary, codec_from_config, resolve_codec
from mistique.ingest.columns import Described
from mistique.ingest.opened import RAW, Opened
from mistique.ingest.sink import Sink
from mistique.schema import ColumnType, Intermediate

Asked = str | Codec | Policy
# What a user says is stored of stages and layers, and what is said of each: "auto" is decided one by one.
KEEP: Mapping[str, bool | str] = {"all": True, "none": False, "auto": "auto"}


class Choosing:
    """Decides for the intermediates of one capture.

    Parameters
    ----------
    sink : Sink
    codec : str, Codec or Policy
        For the outputs of stages and layers; all else is kept exactly.
    open_ : mapping of str to Opened
        What the capture has taken so far, seen as it grows.
    """

    def __init__(self, sink: Sink, codec: Asked, open_: Mapping[str, Opened]) -> None:
        self._sink, self._codec, self._open = sink, resolve_codec(codec), open_

    def opened(
        self,
        name: str,
        described: Described,
        *,
        keep: bool | str = True,
        codec: Asked | None = None,
        **facts: Any,
    ) -> Opened:
        """An intermediate as it is begun: its codec, and whether its values are stored. Facts as in `Capture.add`."""
        role = facts.get("role", "stage")
        is_table = described.container != "array" or len(described.types) > 1
        chosen = self.codec_for(role, codec, described.types, described.shape, is_table=is_table)
        has_rule = facts.get("derivation") is not None
        is_derived = has_rule and self.leaves_out(role, codec) and self.follows(facts)
        intermediate = Intermediate(
            name=name,
            n_rows=described.n_rows,
            shape=described.shape,
            types=described.types,
            columns=described.columns,
            container=described.container,
            codec=chosen.config(),
            is_by_column=described.is_by_column,
            raw_nbytes=described.raw_nbytes,
            **{"role": role, **facts},
        )
        is_kept = role != "stage" or (self._pays(intermediate) if keep == "auto" else bool(keep))
        return Opened(intermediate, chosen, is_kept and not is_derived, is_derived)

    def codec_for(
        self, role: str, codec: Asked | None, types: Sequence[ColumnType], shape: tuple[int, ...], *, is_table: bool
    ) -> Codec:
        """What encodes an intermediate."""
        asked = self._asked(role, codec)
        chosen = asked.codec_for(types, shape=shape, is_table=is_table) if isinstance(asked, Policy) else asked
        if isinstance(chosen, Summary):
            chosen = chosen.for_shape(shape)
        # Where it takes no column at all everything is exact, and is recorded as that.
        return chosen if any(map(chosen.applies_to, types)) else RAW

    def held(self, name: str, lineage: str, *, codec: Asked | None, facts: Mapping[str, Any]) -> Opened | None:
        """What the store holds of that lineage, or what follows by a rule from what is open, under this name.

        None: neither; it has to be computed.
        """
        role = facts.get("role", "stage")
        held = self._sink.held(lineage, lambda found: self.is_wanted(found, role, codec))
        is_derived = held is None and self.leaves_out(role, codec)
        if is_derived:
            held = self._sink.derived(lineage)
            if held is not None and not self.follows({"parents": held.parents, **facts}):
                held = None
        if held is None:
            return None
        taken = replace(held, name=name, **facts)
        return Opened(taken, codec_from_config(held.codec), keep=False, is_derived=is_derived)

    def is_wanted(self, held: Intermediate, role: str, codec: Asked | None) -> bool:
        """It is kept by the codec that it would get now; or exactly, where a policy chooses."""
        asked = self._asked(role, codec)
        now = self.codec_for(role, codec, held.types, held.shape, is_table=held.is_table)
        exact = [c for c in asked.codecs if not c.is_lossy] if isinstance(asked, Policy) else []
        return any(dict(held.codec) == wanted.config() for wanted in (now, *exact))

    def leaves_out(self, role: str, codec: Asked | None) -> bool:
        """Whether what follows from another is not stored."""
        asked = self._asked(role, codec)
        return isinstance(asked, Policy) and asked.leaves_out_derived

    def follows(self, facts: Mapping[str, Any]) -> bool:
        """Its one parent is answered without the model, by values and not by a summary of them.

        Parents are taken before what is computed from them.
        """
        parents = facts.get("parents")
        return (
            parents is not None
            and len(parents) == 1
            and parents[0] in self._open
            and self._open[parents[0]].is_answered
            and not isinstance(self._open[parents[0]].codec, Summary)
        )

    def _pays(self, intermediate: Intermediate) -> bool:
        """Recomputing it, and all that it is computed from, takes so long that its bytes are worth it."""
        if intermediate.recompute_difference is None:
            return True
        seconds = intermediate.pass_seconds_per_row
        seen: set[str] = set()
        waiting = list(intermediate.parents if intermediate.parents is not None else self._open)
        while waiting:
            parent = waiting.pop()
            if parent in seen or parent not in self._open:
                continue
            seen.add(parent)
            node = self._open[parent].intermediate
            seconds += node.pass_seconds_per_row
            waiting += node.parents if node.parents is not None else self._open
        row_nbytes = intermediate.raw_nbytes / max(intermediate.n_rows, 1)
        if not row_nbytes:
            row_nbytes = intermediate.n_columns * np.dtype(intermediate.types[0].cell).itemsize
        return self._sink.pays(intermediate, row_seconds=seconds, row_nbytes=row_nbytes)

    def _asked(self, role: str, codec: Asked | None) -> Codec | Policy:
        return RAW if role != "stage" else self._codec if codec is None else resolve_codec(codec)
