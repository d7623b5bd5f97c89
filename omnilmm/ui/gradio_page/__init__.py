"""The parts of the Gradio page; `web_demo.py` serves it."""

from omnilmm.ui.gradio_page.serving import load_gradio

load_gradio()  # Gradio reads some settings when it is imported, so they have to be in place before any part is
