"""Colours, fonts and style of the page: the system's fonts, nothing from elsewhere."""

from typing import Any

import gradio as gr

__all__ = ["looks"]

CSS = """
.gradio-container { width: 100% !important; max-width: 1280px !important; margin: 0 auto !important; }
.snrise-head h1 { font-size: 1.5rem; font-weight: 650; margin: 0; }
.snrise-head p, .snrise-about p { margin: 0; color: var(--body-text-color-subdued); font-size: .9rem; }
.snrise-status { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; min-height: 1.6rem; margin: 0; }
.snrise-status progress {
  flex: 1 1 8rem; max-width: 20rem; height: .5rem; appearance: none; border: 0; border-radius: 4px; overflow: hidden;
  background: var(--border-color-primary);
}
.snrise-status progress::-webkit-progress-bar { background: var(--border-color-primary); }
.snrise-status progress::-webkit-progress-value { background: var(--color-accent); }
.snrise-status progress::-moz-progress-bar { background: var(--color-accent); }
.snrise-failed { color: var(--error-text-color); font-weight: 600; overflow-wrap: anywhere; }
.snrise-figure { margin: 0; }
.snrise-figure img { display: block; max-width: 100%; height: auto; background: white; border-radius: 4px; }
.snrise-figure figcaption { margin-top: .6rem; }
.snrise-figure img.snrise-pixels { image-rendering: pixelated; }
.snrise-command { display: flex; gap: .5rem; align-items: flex-end; }
.snrise-command label { flex: 1; font-size: .85rem; color: var(--block-label-text-color); }
.snrise-command textarea {
  display: block; width: 100%; resize: vertical; field-sizing: content; margin-top: .25rem; padding: .45rem .6rem;
  font: .85rem ui-monospace, monospace; color: var(--body-text-color); background: var(--input-background-fill);
  border: 1px solid var(--border-color-primary); border-radius: 6px;
}
.snrise-command button, .snrise-figure button {
  padding: .35rem .8rem; border: 1px solid var(--border-color-primary); border-radius: 6px;
  background: var(--button-secondary-background-fill); color: var(--button-secondary-text-color); cursor: pointer;
}
.snrise-command button:focus-visible, .snrise-figure button:focus-visible {
  outline: 2px solid var(--color-accent); outline-offset: 2px;
}
.snrise-table { overflow-x: auto; margin: 0 0 1rem; }
.snrise-table table { border-collapse: collapse; border: 0 !important; font-size: .85rem; }
.snrise-table tr { border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important; }
.snrise-table caption { text-align: left; font-weight: 600; padding: .3rem 0; }
.snrise-table th, .snrise-table td {
  padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; border: 0; font-weight: normal;
}
.snrise-table th[scope=row] { color: var(--body-text-color-subdued); white-space: nowrap; }
.snrise-numbers td, .snrise-numbers th[scope=col]:not(:first-child) {
  text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums;
}
.snrise-numbers tbody tr:last-child > * { font-weight: 600; }
"""


def looks() -> dict[str, Any]:
    """What the page is launched or mounted with."""
    theme = gr.themes.Default(
        primary_hue="blue", neutral_hue="gray", font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(  # the theme's own grey is too light to be read easily
        body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400",
    )
    return {"theme": theme, "css": CSS, "footer_links": []}
