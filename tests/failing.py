"""What a good error looks like: the right class, one line, the names that matter."""

import re

EITHER = (ValueError, TypeError)


def fails(error, *needles):
    """Context that demands exactly this class and a line containing every needle."""

    class Demand:
        def __enter__(self):
            return self

        def __exit__(self, kind, value, trace):
            assert kind is not None, f"nothing raised; expected {error} about {needles}"
            if not issubclass(kind, (ValueError, TypeError)):
                return False
            wanted = error if isinstance(error, tuple) else (error,)
            assert kind in wanted, f"{kind.__name__}: {value}"
            line = str(value)
            assert "\n" not in line and line, repr(line)
            for needle in needles:
                # whole words, so that "p" is not found in "shape" nor "row 1" in "row 12"
                word = rf"\b{needle}\b" if re.fullmatch(r"[\w ]+", needle) else re.escape(needle)
                assert re.search(word, line), f"{needle!r} not in {line!r}"
            return True

    return Demand()
