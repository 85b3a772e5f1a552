"""Each line of docs/migrating.md gives the number of its peer; skipped where that is missing."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

TEXT = (Path(__file__).parent.parent / "docs/migrating.md").read_text(encoding="utf-8")
SECTIONS = {part.split("\n")[0]: part for part in TEXT.split("\n## ")[1:]}
PEERS = {
    "SciPy": ["scipy.stats", "scipy.special", "scipy.spatial.distance"],
    "scikit-learn": ["sklearn.metrics"],
    "torch": ["torch.nn.functional", "torch.distributions"],
    "torchmetrics": ["torchmetrics", "torchmetrics.text", "torchmetrics.classification"],
    "Keras": ["keras"],
}
ROWS = [
    (section, *row)
    for section in PEERS
    for row in re.findall(r"^\| `(.+?)` \| `(.+?)` \|", SECTIONS[section], re.MULTILINE)
]


def names():
    """The arrays that the document begins with."""
    found = {}
    block = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]
    exec("\n".join(line[4:] for line in block.splitlines()), found)
    return found


def peer_names(section, arrays):
    """The same numbers as the other package takes them, and its functions."""
    modules = [importlib.import_module(name) for name in PEERS[section]]
    if section != "SciPy" and section != "scikit-learn":
        torch = importlib.import_module("torch")
        for name, value in arrays.items():
            if isinstance(value, np.ndarray):
                arrays[name] = torch.from_numpy(value)
    if section == "torch":
        arrays["F"], arrays["D"] = modules
    elif section == "Keras":
        arrays["keras"], arrays["K"] = modules[0], modules[0].losses
    elif section == "SciPy":
        arrays["scipy"] = importlib.import_module("scipy")
    else:
        for module in modules:
            arrays.update({n: getattr(module, n) for n in dir(module) if not n.startswith("_")})
    return arrays


def test_all_lines_are_found():
    assert [sum(row[0] == section for row in ROWS) for section in PEERS] == [11, 10, 18, 8, 9]


@pytest.mark.parametrize(("section", "theirs", "ours"), ROWS, ids=[row[1] for row in ROWS])
def test_a_line(section, theirs, ours):
    try:
        known = peer_names(section, names())
    except ImportError as error:
        pytest.skip(f"{section} is not installed: {error}")
    wanted, found = np.asarray(eval(theirs, dict(known))), np.asarray(eval(ours, dict(known)))
    clipped = "no clipping" in SECTIONS[section].split(f"`{ours}` |")[1].split("\n")[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-6 if clipped else 1e-9)
