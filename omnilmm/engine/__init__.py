"""Loading, generation and streaming: turns conversations into streams of events, independent of any user interface."""
