"""Pieces of HTML for the page. Whatever comes from elsewhere is escaped."""

import base64
import html
import io
import threading
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure
from PIL import Image

from snrise.app.jobs import Costs, Course, Job, Moment
from snrise.planning import telling
from snrise.plots import logsnr_text, plan_chart
from snrise.plots.pictures import frames

__all__ = ["command", "costs", "course", "failed", "frame", "line", "picture", "progress"]

#: The longer side of what is shown on the way, and of small pictures when they are finished, in pixels.
LONGEST, LARGE = 1200, 512
#: Matplotlib's text is not made for several threads at once.
_DRAWING = threading.Lock()
#: Saves the picture beside it as the file that it is.
_SAVE = (
    "const link = document.createElement('a'); link.href = this.closest('figure').querySelector('img').src; "
    "link.download = this.dataset.name; link.click()"
)

#: Copies the text beside it; where a browser lets a page write nothing to the clipboard, it is selected.
_COPY = (
    "const text = this.parentElement.querySelector('textarea'); text.select(); "
    "if (navigator.clipboard) { navigator.clipboard.writeText(text.value).then(() => { this.textContent = 'Copied' }) }"
)


def escape(text: object) -> str:
    """Text within HTML, which is a template to Gradio, too."""
    return "".join(f"&#{ord(c)};" if c in "{}$`\\" else c for c in html.escape(str(text)))


def line(text: str) -> str:
    """What goes on, in a line."""
    return f'<p class="snrise-status" role="status">{escape(text)}</p>' if text else ""


def failed(text: str) -> str:
    """An error, in a line."""
    return f'<p class="snrise-status snrise-failed" role="alert">{escape(text)}</p>'


def command(text: str, name: str = "Command") -> str:
    """A command line, with a button that copies it."""
    named = escape(name)
    area = f'<textarea readonly rows="1" spellcheck="false" aria-label="{named}">{escape(text)}</textarea>'
    button = f'<button type="button" aria-label="Copy {named}" onclick="{escape(_COPY)}">Copy</button>'
    return f'<div class="snrise-command"><label>{named}{area}</label>{button}</div>'


def progress(name: str, moment: Moment) -> str:
    """How far a job is, in a line and a bar."""
    text = f"{name}step {moment.done} of {moment.steps}"
    bar = f'<progress max="{moment.steps}" value="{moment.done}" aria-label="{escape(text)}"></progress>'
    return f'<p class="snrise-status" role="status">{escape(text)}{bar}</p>'


def frame(moment: Moment) -> str:
    """The noisy pictures and their estimates on the way."""
    (shown,) = frames([moment.state])
    shown.thumbnail((LONGEST, LONGEST))
    file = io.BytesIO()
    shown.save(file, "JPEG", quality=92, subsampling=0)
    at = f"step {moment.done} of {moment.steps}, λ = {logsnr_text(moment.state.logsnr)}"
    return _figure("jpeg", file.getvalue(), f"Noisy z and its estimate x̂ of {len(moment.state.x)} pictures, {at}")


def picture(job: Job, moment: Moment) -> str:
    """The finished pictures, with a button that saves the file."""
    png, order = job.png(moment), job.order
    with Image.open(io.BytesIO(png)) as opened:
        width = opened.width * max(1, LARGE // opened.width)
    pictures = "1 picture" if order.number == 1 else f"{order.number} pictures"
    of = f" of {', '.join(order.classes)}" if order.classes else ""
    name = f"samples-{order.seed}.png"
    button = f'<button type="button" data-name="{name}" onclick="{escape(_SAVE)}">Save PNG</button>'
    alt = f"{pictures}{of}, seed {order.seed}, of {order.run}"
    return _figure("png", png, alt, f'style="width: {width}px" class="snrise-pixels"', button)


def course(shown: Course) -> str:
    """A run so far: its table, events and curves."""
    events = "".join(f"<li>{escape(event)}</li>" for event in shown.events)
    note = f"<p>{escape(shown.note)}</p>" if shown.note else ""
    chart = "" if shown.figure is None else _chart(shown.figure, f"Curves of {shown.rows[0][1]}")
    return _pairs("The run so far", shown.rows) + (f"<ul>{events}</ul>" if events else "") + note + chart


def costs(shown: Costs) -> str:
    """A plan: its table, its lines, what is unwise, and its chart."""
    plan = shown.plan
    heads = ["where", "width", "n", *(part for _, name, _ in telling.COLUMNS for part in (name, "%"))]
    body = [list(telling.cells(row, plan.whole)) for row in (*plan.rows, plan.whole)]
    unwise = "".join(f"<li>{escape(text)}</li>" for text in shown.warnings)
    return (
        _table(telling.title(plan), heads, body) + f"<p>{escape(telling.legend(plan))}</p>"
        + _pairs("What a step takes", shown.rows) + (f'<ul class="snrise-failed">{unwise}</ul>' if unwise else "")
        + _chart(plan_chart(plan), f"Levels and memory of {telling.title(plan)}")
    )


def _chart(figure: Figure, alt: str) -> str:
    file = io.BytesIO()
    with _DRAWING:
        figure.savefig(file, format="png", facecolor="white")
    return _figure("png", file.getvalue(), alt)


def _figure(kind: str, content: bytes, alt: str, attributes: str = "", after: str = "") -> str:
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    told = f"<figcaption>{after}</figcaption>" if after else ""
    return f'<figure class="snrise-figure"><img src="{source}" alt="{escape(alt)}" {attributes}>{told}</figure>'


def _pairs(title: str, pairs: Iterable[tuple[str, str]]) -> str:
    body = "".join(f'<tr><th scope="row">{escape(a)}</th><td>{escape(b)}</td></tr>' for a, b in pairs)
    return f'<div class="snrise-table"><table><caption>{escape(title)}</caption><tbody>{body}</tbody></table></div>'


def _table(title: str, heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(text)}</td>" for text in rest)}</tr>'
        for first, *rest in body
    )
    return (
        f'<div class="snrise-table snrise-numbers"><table><caption>{escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
