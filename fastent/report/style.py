"""Colours and fonts of pages and plots; those of the site are the same.

FIRST and SECOND stay apart for the colour-blind; in grey print hatches and dashes tell them apart.
"""

FONT = 'system-ui, -apple-system, "Segoe UI", sans-serif'
# What system-ui is on Windows, macOS, Android and Linux, for drawings that name a font themselves.
FONTS = ("Segoe UI", "Helvetica Neue", "Roboto", "Noto Sans", "Liberation Sans", "DejaVu Sans")
LIGHT = {
    "ink": "#222832",
    "soft": "#48566b",
    "line": "#d1d5da",
    "paper": "#ffffff",
    "first": "#1f5f99",
    "second": "#d55e00",
}
DARK = {
    "ink": "#ced6dd",
    "soft": "#9ca4af",
    "line": "#48566b",
    "paper": "#14181e",
    "first": "#7db4e6",
    "second": "#ffa366",
}


def variables(colours: dict[str, str]) -> str:
    """As CSS declares them."""
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
