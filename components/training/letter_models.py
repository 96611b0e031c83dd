"""Language models of characters for `model.letter_models`: their descriptions in recipes, copies of their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from components.bundle import Bundle
from components.datasets.batches.examples import padded
from components.datasets.store import Sequences
from components.encodings.characters import Characters
from components.encodings.reversed_characters import ReversedCharacters
from components.encodings.spelled import Spelled
from components.encodings.vocabulary import BOS, PAD, SPECIALS, UNK
from components.errors import UserError
from components.layers.base import moved
from components.models.backbone import Backbone
from components.models.ensemble import members
from components.models.letter_models import WHERE
from components.models.sequence_model import SequenceModel
from components.models.weights import load_weights, weights
from components.options import options_of
from components.registry import resolve

MOST_TEXTS, BATCH = 2000, 64  # over which the states are standardised, and how many are read at once


def described(selector: str, bundle: Bundle) -> dict[str, Any]:
    """What a recipe says of a language model: its selector, the digest of its weights, the size of its vocabulary, the
    direction in which it reads, and the settings of its layers.

    Raises:
        UserError: it isn't a causal language model of characters.
    """
    encoding, model = bundle.encoding, bundle.model
    if not isinstance(encoding, Characters) or not isinstance(model, SequenceModel) or not model.causal:
        what = f"{selector} isn't a language model of characters"
        hint = "train one on a text: reprise run shakespeare-chars --set data.path=FILE"
        raise UserError(what, where=WHERE, hint=hint)
    section = bundle.recipe["model"]
    own = [name for kind in (Backbone, resolve("cell", section["kind"])) for name in options_of(kind)]
    # the file of word vectors was read for its training; another machine may have other kernels
    left_out = ("vectors", "freeze_vectors", "backend")
    settings = {name: section[name] for name in own if name in section and name not in left_out}
    return {
        "model": selector,
        "weights": bundle.weights_digest,
        "size": len(encoding.vocabulary),
        "reversed": isinstance(encoding, ReversedCharacters),
        "settings": settings,
    }


def take_letter_models(
    model: nn.Module,
    words: Spelled,
    train: Sequences,
    given: Sequence[Mapping[str, Any]],
    opened: Callable[[str], Bundle],
) -> list[str]:
    """Copy the language models' weights to the `LetterModels` of a new run's model, and standardise their states over
    texts of the training data. `given`: their descriptions. Returns notes, a line each.

    Raises:
        UserError: a model has been removed, or has other weights than the recipe says.
    """
    readers, notes = [member.letter_models for member in members(model)], []
    for place, facts in enumerate(given):
        bundle = opened(facts["model"])
        if bundle.weights_digest != facts["weights"]:
            what = f"{facts['model']} has other weights than when the run began"
            raise UserError(what, where=WHERE, hint="begin a new run")
        ids = [int(bundle.encoding.encode(letter)[0]) for letter in words.letters.tokens[len(SPECIALS) :]]
        unknown = f"; it knows {len(ids) - ids.count(UNK)} of their {len(ids)} letters" if UNK in ids else ""
        notes.append(f"{facts['model']}: its states are features of each word{unknown}")
        for reader in readers:
            mine = reader.models[place]
            own = weights(mine.reader)
            taken = {name: value for name, value in weights(bundle.model).items() if name in own}
            load_weights(mine.reader, taken, where=facts["model"])
            mine.ids_L[: len(SPECIALS)] = torch.arange(len(SPECIALS))
            mine.ids_L[PAD] = int(bundle.encoding.encode(" ")[0])
            if bundle.task.framing == "stream":  # else a text begins with BOS
                mine.ids_L[BOS] = int(bundle.encoding.encode("\n")[0])
            mine.ids_L[len(SPECIALS) :] = torch.tensor(ids)
    rows = np.arange(0, len(train), 1 + len(train) // MOST_TEXTS)
    found = []
    for start in range(0, len(rows), BATCH):
        texts, _ = padded(train, rows[start : start + BATCH])
        letters = torch.from_numpy(texts[..., 1:] - len(words.vocabulary)).clamp(min=0)
        found.append(readers[0].states(letters)[moved((letters > 0).any(2), next(model.parameters()).device)])
    for reader in readers:
        reader.standardise(torch.cat(found))
    return notes
