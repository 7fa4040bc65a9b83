"""What is settled before Gradio is imported: that it is there, what it tells others, who reaches it."""

import importlib.util
import os

from snrise._errors import SnriseError

__all__ = ["LOCAL", "quiet_gradio"]

#: Addresses that no other machine reaches.
LOCAL = ("127.0.0.1", "localhost", "::1")
#: No telemetry, no question for newer versions, and no record of what was made in the browser's storage.
SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False", "HF_HUB_DISABLE_TELEMETRY": "1",
}


def quiet_gradio() -> None:
    """Set it up before it is imported.

    Raises:
        SnriseError: without gradio.
    """
    if importlib.util.find_spec("gradio") is None:
        raise SnriseError("snrise app: needs gradio: pip install 'snrise[app]'")
    os.environ.update(SETTINGS)
