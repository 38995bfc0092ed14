"""What was found becomes a row, what was read becomes a row or a reason why it is none."""

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bench.results.rows import AnyRow, CaseRow, QualityRow

Found = dict[str, Any]
"""Plain values by key, as they come through a pipe: a row or a part of one before it is checked."""


def row_of(found: Mapping[str, Any]) -> AnyRow:
    """Return what was found as a row; a number that is not finite is a missing one.

    What cannot be a row is a fault of the program: it becomes a failed row that keeps all of it in `refused`.
    """
    kind: type[AnyRow] = QualityRow if "variant" in found else CaseRow
    content = json.loads(json.dumps(_finite(found), default=str))
    try:
        return kind.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        known = {key: content[key] for key in ("name", "case", "variant", "seed") if key in content}
        reason = f"what was found is no row of the results: {explained(error)}"
        return kind.model_validate(known | {"status": "failed", "reason": reason, "arms": {}, "refused": content})


def explained(error: ValidationError) -> str:
    """Return where and why something is not what it has to be, without the value, which may be anything."""
    said = []
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:3]:
        place = ".".join(map(str, item["loc"]))
        said.append(repr(f"{place}: {item['msg']}" if place else item["msg"])[1:-1])
    more = error.error_count() - len(said)
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")


def _finite(value: Any) -> Any:
    """JSON has no NaN: a number that is not finite is a missing number."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
