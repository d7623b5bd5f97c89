"""The parts of the Streamlit page; `web_demo_streamlit.py` puts them together."""
