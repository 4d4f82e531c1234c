"""What was found, in a few plain sentences with their numbers and intervals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from iconicity.indexer.text import counted
from iconicity.scorer.measure.judgement import GIVEN
from iconicity.scorer.measure.recognised import Found, Recognition, recognition
from iconicity.scorer.measure.study import FEW, Study
from iconicity.scorer.text import percent
from iconicity.scorer.thresholds import NEEDED

MOST_MODELS = 8  # that are told one by one
_NO_VERDICT = (
    "Nothing can be called recognised or copied yet: no threshold is known that means something for these encoders. "
    f"References of {NEEDED} concepts or more give one, and `encoders` offline-copy brings its own."
)


def sentences(study: Study) -> list[str]:
    """What each model recognises, what it reuses of it, and what to look at first, a paragraph each."""
    found = recognition(study)
    out = list(_models(found)) if found.cra else [_NO_VERDICT]
    return [*out, _look_first(study, found)]


def _models(found: Found) -> Iterator[str]:
    for model in found.models[:MOST_MODELS]:
        yield f"{_recognises(model)} {_reuses(model)}".rstrip()
    if len(found.models) > MOST_MODELS:
        yield f"{counted(len(found.models) - MOST_MODELS, 'more model')} in the table above."
    assert found.cra is not None
    source = (
        "the results' own"
        if found.cra.kind == GIVEN
        else f"{found.cra.owner}, which {percent(found.cra.alpha)} of unrelated references reach"
    )
    few = any(0 < m.concepts < FEW for m in found.models)
    yield (
        f"A concept counts as recognised when at least half of its images reach the CRA threshold ({source})."
        + (f" Fewer than {FEW} concepts can only give a hint." if few else "")
    )


def _recognises(model: Recognition) -> str:
    if not model.concepts:
        return f"{model.model} cannot be judged: its concepts have no CRA threshold, or no image of it could be used."
    share = f"{model.recognised / model.concepts:.0%}".replace("%", " %")
    lacking = f", and {counted(model.without, 'concept has', 'concepts have')} no threshold" if model.without else ""
    return (
        f"{model.model} recognises {model.recognised} of {counted(model.concepts, 'concept')} "
        f"({share}, {_range(model.low, model.high)}){lacking}."
    )


def _reuses(model: Recognition) -> str:
    if not model.concepts:
        return ""
    if not model.images:
        return "None of its images is recognised, so that there is nothing to copy or to transform."
    if model.reuse is None:
        return f"How much its {counted(model.images, 'recognised image')} copy cannot be said: no VR threshold holds for this encoder."
    value, low, high = (float(getattr(model.reuse, name)[0]) for name in ("value", "low", "high"))
    if np.isnan(value):
        return "How much its recognised images copy cannot be said: their concepts have no VR threshold."
    ends = "too few concepts for a range" if np.isnan(low) else _range(low, high)
    its = counted(model.images, "recognised image")
    return (
        f"In its {its} {value:.0%}".replace("%", " %")
        + f" of the patches are found in the references, on average over the concepts ({ends}); the rest was not found."
    )


def _look_first(study: Study, found: Found) -> str:
    name = f"{study.models[study.model[found.first]]}/{study.relpaths[found.first]}"
    if found.patches is not None:
        return (
            f"What to look at first: {name}, of whose {study.p.shape[1]} patches {found.patches} "
            f"{'is' if found.patches == 1 else 'are'} found in the references."
        )
    return f"What to look at first: {name}, the image most similar to a reference."


def _range(low: float, high: float) -> str:
    return f"{100 * low:.0f} to {100 * high:.0f} %"
