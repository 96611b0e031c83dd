"""Registered models in MLflow: folders of safetensors and JSON, verified by digest whenever they are fetched.

The digests are tags, because a user who can write artifacts can't necessarily write tags.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from components.errors import UserError, unknown
from components.paths import writable_folder
from components.provenance import digest_bytes, digest_json
from components.tracking import alias_log
from components.tracking.alias_log import AliasChange
from components.tracking.base import ModelRef, RunRef, VersionFacts
from components.tracking.manifest import LEFT_BEHIND, below, manifest, overview, verify
from components.tracking.mlflow_client import StoreUser, explained, user_name
from components.tracking.moved import local_folder
from components.tracking.process import machine_name
from components.whole_files import new_folder

# tags of a model version: {file: sha256} of its bundle as JSON, the digest of that, and the overview of the whole
# model's folder with its code
FILES, DIGEST, MODEL = "bundle.files", "bundle.digest", "model.files"
NAME = re.compile(r"[\w-][\w. -]{0,199}")
SETTLING = 5  # attempts, as another machine may change the champion meanwhile
CHANGED = "the files in the artifact store were changed: register the model again"
BUNDLE = "artifacts/bundle"  # the bundle's folder inside an MLflow model


class MlflowStore(StoreUser):
    """The registered models of the store that `settings` names: folders of safetensors, JSON and the recipe."""

    def register(self, run: RunRef, folder: Path, name: str, *, tags: Mapping[str, str]) -> ModelRef:
        """Register the bundle in `folder` as a new version of `name` that MLflow can serve. If the same bundle of the
        same run is registered already (the flow was retried), that version is returned.

        Raises:
            UserError: the folder is empty, the name isn't valid, or the store doesn't respond.
        """
        files = manifest(folder)
        if not files:
            raise UserError("the folder is empty: there is nothing to register", where=str(folder))
        if not NAME.fullmatch(name):
            raise UserError(f"{name[:80]!r} isn't a valid model name", hint="use letters, digits, _ - . and space")
        every = {
            **{key: str(value) for key, value in tags.items()},
            FILES: json.dumps(files),
            DIGEST: digest_json(files),
        }
        with explained(self.settings):
            for version in self._versions(f"name = '{name}' and run_id = '{run.run_id}'"):
                if version.tags.get(DIGEST) == every[DIGEST] and MODEL in version.tags:
                    return self._ref(name, str(version.version))
            self._create(name)
            logged, every[MODEL] = self._log_model(run, folder, name)
            # the location itself, as MLflow's sqlite registry looks up models:/… in the globally set store
            version = self.client.create_model_version(
                name, source=logged.artifact_location, run_id=run.run_id, tags=every, model_id=logged.model_id
            )
        return ModelRef(name, str(version.version), run.run_id)

    def find(self, name: str, selector: str) -> ModelRef:
        """The version with an alias ("champion"), a number ("3"), or the newest one ("latest").

        Raises:
            UserError: no such model (lists the registered ones) or version (lists versions and aliases).
        """
        with explained(self.settings):
            model = self._registered(name)
            if model is None:
                raise self._unknown(name)
            versions = {str(version.version) for version in self._versions(f"name = '{name}'")}
            number = re.sub(r"^[vV](?=\d+$)", "", selector)
            if selector == "latest" and versions:
                number = max(versions, key=int)
            elif number not in versions:
                number = str(model.aliases.get(self.settings.aliases.get(selector, selector), ""))
            if number not in versions:
                aliases = ", ".join(f"{alias} (v{version})" for alias, version in sorted(model.aliases.items()))
                hint = f"versions: {', '.join(sorted(versions, key=int)) or 'none'}; aliases: {aliases or 'none'}"
                if selector == "champion" and versions:
                    newest = max(versions, key=int)
                    hint += f"; use {name}@{newest}, or make it the champion: reprise promote {name}@{newest}"
                raise UserError(f"{name} has no version {selector!r}", hint=hint)
            return self._ref(name, number)

    def names(self) -> list[str]:
        """Names of the registered models."""
        with explained(self.settings):
            return sorted(model.name for model in self.client.search_registered_models(max_results=1000))

    def fetch(self, ref: ModelRef) -> Path:
        """The bundle's folder on this machine, after verifying the whole model. Models in a local store are used in
        place; others are downloaded once into the model cache.

        Raises:
            UserError: the files aren't the registered ones, or there is no such version.
        """
        with explained(self.settings):
            return self._model(ref, self.tags(ref)) / BUNDLE

    def export(self, ref: ModelRef, target: Path) -> Path:
        """Copy the whole model with its code to a new folder: the registered files and nothing else.

        Raises:
            UserError: the folder exists, the files aren't the registered ones, or the version was registered by a
            release that didn't record the digests of the code.
        """
        with explained(self.settings):
            tags = self.tags(ref)
            if MODEL not in tags:
                what = "it was registered by an older version of Reprise, which didn't record digests of the code"
                raise UserError(what, where=str(ref), hint=f"register it again: reprise promote run:{ref.run_id}")
            with new_folder(target) as copy:
                ignored = shutil.ignore_patterns(*LEFT_BEHIND)
                shutil.copytree(self._model(ref, tags), copy, ignore=ignored, symlinks=True, dirs_exist_ok=True)
                _verify(copy, tags, ref, CHANGED)  # again: the original may have changed meanwhile
        return target

    def _model(self, ref: ModelRef, tags: Mapping[str, str]) -> Path:
        """The whole model's folder on this machine, verified."""
        from mlflow.artifacts import download_artifacts

        address = self.client.get_model_version_download_uri(ref.name, ref.version)
        digest = digest_json([_registered_files(tags, str(ref)), tags.get(MODEL)])
        here = local_folder(address)
        if here is not None:
            if not here.exists():
                raise self._elsewhere(ref, here)
            _verify(here, tags, ref, CHANGED)
            return here
        cached = self.settings.model_cache / f"{ref.name}-v{ref.version}-{digest[:12]}"
        if not cached.exists():
            self.settings.model_cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.settings.model_cache, prefix=".fetching-") as folder:
                into = Path(folder) / "model"
                into.mkdir()
                got = Path(download_artifacts(address, dst_path=into, tracking_uri=self.settings.tracking_uri))
                _verify(got, tags, ref, CHANGED)
                with contextlib.suppress(OSError):  # another process was faster; its copy is verified below
                    got.rename(cached)
        _verify(cached, tags, ref, f"delete {cached} to fetch it again")
        return cached

    def set_alias(self, ref: ModelRef, alias: str, *, why: str = "", back: bool = False) -> ModelRef:
        """Move an alias (or the role champion or challenger) to the version. The change is recorded in the registered
        model's tags; `back`: it is a rollback."""
        roles = self.settings.aliases
        with explained(self.settings):
            before = str(self.client.get_registered_model(ref.name).aliases.get(roles.get(alias, alias), ""))
            self.client.set_registered_model_alias(ref.name, roles.get(alias, alias), ref.version)
            if before != ref.version:
                self._record(ref.name, alias, before, ref.version, why, back)
            others = self._aliases(ref) if alias == "champion" else []
            if roles["challenger"] in others:  # promoted: no longer the challenger
                self.client.delete_registered_model_alias(ref.name, roles["challenger"])
                self._record(ref.name, "challenger", ref.version, "", "it is now the champion", False)
        return replace(ref, alias=alias)

    @contextlib.contextmanager
    def deciding(self, name: str) -> Iterator[None]:
        """A lock to hold while reading and changing the champion: one process of this state folder at a time."""
        folder = writable_folder(self.settings.home, where="REPRISE_HOME")
        with FileLock(folder / f"champion-{digest_bytes(name.encode())[:12]}.lock"):
            yield

    def settle(self, ref: ModelRef, judge: Callable[[ModelRef | None], tuple[str, str]]) -> tuple[ModelRef, str]:
        """Set the alias that `judge(champion)` returns, as one step. Returns the version, and the reason from `judge`.

        Machines that share a registry have no common lock, so the champion is read again before the alias is set.
        """
        with self.deciding(ref.name):
            for _ in range(SETTLING):
                champion = self.champion(ref.name)
                role, why = judge(champion)
                if self.champion(ref.name) == champion:
                    return self.set_alias(ref, role, why=why), why
        raise UserError("another process keeps changing the champion", where=ref.name, hint="try again")

    def alias_changes(self, name: str) -> list[AliasChange]:
        """Every recorded change of the model's aliases, oldest first."""
        with explained(self.settings):
            return alias_log.from_tags(self.client.get_registered_model(name).tags)

    def versions(self, name: str) -> list[VersionFacts]:
        """All versions of a model, newest first.

        Raises:
            UserError: no such model; lists the registered ones.
        """
        with explained(self.settings):
            model = self._registered(name)
            if model is None:
                raise self._unknown(name)
            roles = {alias: role for role, alias in self.settings.aliases.items()}
            found = []
            for version in self._versions(f"name = '{name}'"):
                number = str(version.version)
                aliases = [alias for alias, target in model.aliases.items() if str(target) == number]
                named = sorted(
                    (roles.get(alias, alias) for alias in aliases), key=lambda a: (a not in roles.values(), a)
                )
                ref = ModelRef(name, number, version.run_id or "", next(iter(named), ""))
                created = alias_log.shown_time(version.creation_timestamp)
                found.append(VersionFacts(ref, tuple(named), dict(version.tags), created))
            return sorted(found, key=lambda facts: -int(facts.ref.version))

    def champion(self, name: str) -> ModelRef | None:
        """The current champion, None if there is none or no such model."""
        with explained(self.settings):
            model = self._registered(name)
            number = model and model.aliases.get(self.settings.aliases["champion"])
            return self._ref(name, str(number)) if number else None

    def tags(self, ref: ModelRef) -> dict[str, str]:
        """The version's tags."""
        with explained(self.settings):
            return dict(self.client.get_model_version(ref.name, ref.version).tags)

    def _log_model(self, run: RunRef, folder: Path, name: str) -> tuple[Any, str]:
        """Store the bundle as a servable model of the run. Returns MLflow's record of it, and the tag MODEL."""
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        from components.tracking.pyfunc import save_served_model

        data = self.client.get_run(run.run_id)
        logged = self.client.create_logged_model(
            data.info.experiment_id,
            name,
            source_run_id=run.run_id,
            params=data.data.params,
            model_type="sequence model",
        )
        with tempfile.TemporaryDirectory() as temporary:
            # MLflow names the folder inside the model after the one it is given
            bundle = Path(temporary) / "bundle"
            shutil.copytree(folder, bundle)
            described = Model(artifact_path=logged.artifact_location, run_id=run.run_id, model_id=logged.model_id)
            model = Path(temporary) / "model"
            save_served_model(bundle, model, described)
            files = json.dumps(overview(manifest(model)))
            self.client.log_model_artifacts(logged.model_id, str(model))
        self.client.finalize_logged_model(logged.model_id, "READY")
        self.client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
        return logged, files

    def _elsewhere(self, ref: ModelRef, folder: Path) -> UserError:
        """The error for files in a folder that doesn't exist on this machine."""
        host = ""
        with contextlib.suppress(Exception):  # the run may be deleted
            host = self.client.get_run(ref.run_id).data.tags.get("process.host", "")
        where = f"{folder} on {host}" if host and host != machine_name() else str(folder)
        hint = (
            f"copy that folder to {folder} here. To share models between machines, set tracking.artifacts in "
            "mlflow.yaml to a place that all can reach (s3://…), or use an MLflow server that stores artifacts"
        )
        return UserError(f"its files are in {where}, which doesn't exist here", where=str(ref), hint=hint)

    def _create(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _registered(self, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_registered_model(name) if NAME.fullmatch(name) else None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _unknown(self, name: str) -> UserError:
        if known := self.names():
            return unknown("model", name, known)
        return UserError(f"unknown model {name!r}: none is registered yet", hint="`reprise run names` trains one")

    def _versions(self, filter_string: str) -> list[Any]:
        return list(self.client.search_model_versions(filter_string, max_results=10_000))

    def _record(self, name: str, alias: str, before: str, after: str, why: str, back: bool) -> None:
        """Write an alias's change into the registered model's tags, and delete the oldest over the limit."""
        now_us = time.time_ns() // 1000
        at = alias_log.shown_time(now_us // 1000)
        change = AliasChange(alias, before, after, user_name(), at, why, back)
        self.client.set_registered_model_tag(name, *alias_log.as_tag(change, now_us))
        for key in alias_log.keys(self.client.get_registered_model(name).tags)[: -alias_log.KEPT]:
            self.client.delete_registered_model_tag(name, key)

    def _aliases(self, ref: ModelRef) -> list[str]:
        model = self.client.get_registered_model(ref.name)
        return [alias for alias, version in model.aliases.items() if str(version) == ref.version]

    def _ref(self, name: str, number: str) -> ModelRef:
        version = self.client.get_model_version(name, number)
        aliases = self._aliases(ModelRef(name, number, ""))
        # the roles first, under the names that the other packages use
        roles = [role for role, alias in self.settings.aliases.items() if alias in aliases]
        return ModelRef(name, number, version.run_id or "", next(iter(roles + sorted(aliases)), ""))


def _verify(model: Path, tags: Mapping[str, str], ref: ModelRef, hint: str) -> None:
    """Verify a model's folder, the bundle and everything else, by the digests in the version's tags."""
    found = manifest(model)
    about: dict[str, Any] = {"where": str(ref), "hint": hint}
    verify(below(BUNDLE, found), _registered_files(tags, str(ref)), folder=model / BUNDLE, **about)
    if MODEL in tags:
        verify(overview(found), json.loads(tags[MODEL]), folder=model, **about)


def _registered_files(tags: Mapping[str, str], where: str) -> dict[str, str]:
    """The manifest in a version's tags."""
    try:
        files = json.loads(tags[FILES])
        if digest_json(files) != tags[DIGEST] or not isinstance(files, dict):
            raise ValueError
    except (KeyError, ValueError) as error:
        raise UserError("its files can't be verified: the version wasn't registered by Reprise", where=where) from error
    return files
