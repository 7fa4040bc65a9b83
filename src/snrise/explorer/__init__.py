"""A page to explore a schedule in a browser: one file, computed there, without a network."""

from snrise.explorer.page import KINDS, page

__all__ = ["KINDS", "page"]
