"""What can be said of versions after they were captured: the methods of a `Store` for it."""

from __future__ import annotations

from mistique.errors import CatalogError, IntermediateNotFoundError
from mistique.queries.history import Models, models_of
from mistique.schema import escape_path
from mistique.storage.record_cells import Record
from mistique.storage.version_records import renamed_record, said_record
from mistique.store.rooms import Rooms


class Versions(Rooms):
    """The part of a `Store` that looks after its versions.

    Each of its changes is a record, appended: nothing is overwritten, and a crash leaves it written or not.
    """

    def models(self) -> Models:
        """All versions of all models: when, over which data, with which settings, and what was said of them.

        Examples
        --------
        >>> import mistique, tempfile
        >>> store = mistique.open(tempfile.mkdtemp() + "/homes.mistique")
        >>> len(store.models())
        0
        """
        return models_of(self.catalog)

    def tag(self, version: str, tag: str, *, remove: bool = False) -> None:
        """Give a version a name of its own, ``homes/ridge@best/...``; the version of the model that had it loses it.

        Parameters
        ----------
        version : str
            Such as ``homes/ridge@2`` or ``homes/ridge@latest``.
        tag : str
        remove : bool, default False
            Take it away.

        Raises
        ------
        IntermediateNotFoundError, CatalogError, StoreReadOnlyError
        """
        if not tag or tag == "latest" or tag[0].isdigit() or set(tag) & set("/@%"):
            raise CatalogError(
                f"expected a tag that is no number, not 'latest', and without '/', '@' or '%'; got {tag!r}"
            )
        if remove:
            tags = self.catalog.find_versions(version)[0].about.tags
            if tag not in tags:
                raise CatalogError(f"{version} has no tag {tag!r}; it has {', '.join(tags) or 'none'}")
        else:
            model = self.catalog.find_versions(version)[0].version.model
            for other in self.catalog.captures():
                if other.version.model == model and tag in other.about.tags:
                    self._say(f"{escape_path(model)}@{other.number}", "untag", name=tag)
        self._say(version, "untag" if remove else "tag", name=tag)

    def note(self, version: str, text: str) -> None:
        """Add a note to a version.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError
        """
        self._say(version, "note", value=str(text))

    def link(self, version: str, **runs: str) -> None:
        """Note what other tools call a version: ``store.link("homes/ridge@2", mlflow=run_id, wandb=run.path)``.

        Raises
        ------
        CatalogError
            An id that is no text, or none at all.
        IntermediateNotFoundError, StoreReadOnlyError
        """
        if not runs:
            raise CatalogError('expected a tool and the id of its run, such as mlflow="0af3"; got none')
        for tool, run in runs.items():
            if not isinstance(run, str) or not run:
                kind = "empty text" if run == "" else type(run).__name__
                raise CatalogError(f"{tool}: expected the id of a run as text, such as run.id; got {kind}")
        for tool, run in runs.items():
            self._say(version, "link", name=tool, value=run)

    def delete(self, version: str, *, dataset: str | None = None) -> None:
        """Delete a version, or what was captured of it over one dataset.

        Its number is not given again. What others share with it stays; what nothing refers to any more is removed by
        `compact`.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError

        Examples
        --------
        >>> import mistique, tempfile
        >>> store = mistique.open(tempfile.mkdtemp() + "/homes.mistique")
        >>> store.delete("homes/ridge@2")
        Traceback (most recent call last):
        ...
        mistique.errors.IntermediateNotFoundError: no model 'homes/ridge'; nearest: nothing has been captured yet
        """
        found = self.catalog.find_versions(version)
        if dataset is not None and dataset not in [capture.dataset for capture in found]:
            known = [capture.dataset for capture in found]
            raise IntermediateNotFoundError(what=f"dataset of {version}:", name=dataset, known=known)
        self._say(version, "delete", name=dataset or "")
        for capture in found:
            if dataset in (None, capture.dataset):
                self._graphs.drop(capture.id)
                self.memory.drop(capture.id)

    def rename(self, model: str, *, to: str) -> None:
        """Give a model, all its versions, another name. What is captured under the old one later is another model.

        Raises
        ------
        CatalogError
            There is a model of that name.
        IntermediateNotFoundError, StoreReadOnlyError
        """
        captures = self.catalog.captures()
        known = [capture.version.model for capture in captures]
        if model not in known:
            raise IntermediateNotFoundError(what="model", name=model, known=known)
        if to in known or not to or "@" in to:
            raise CatalogError(f"expected a name that no model has, without '@', got {to!r}")
        self._write(f"rename {model}", renamed_record(self.catalog.runs_of(model), to))

    def _say(self, version: str, action: str, *, name: str = "", value: str = "") -> None:
        of = self.catalog.find_versions(version)[0].id[:3]
        self._write(f"{action} {version}", said_record(of, action, name=name, value=value))

    def _write(self, action: str, record: Record) -> None:
        self._check_writable(action)
        self.catalog.say(record)
