"""The parts of the Gradio page; `web_demo.py` serves it."""

from omnilmm.ui.gradio_page.serving import load_gradio

load_gradio()  # Gradio reads some settings at import time, so they have to be set before any part is imported
