"""Sellers of audio: what each can do, what it costs, how to ask it. Wire knowledge of a seller lives in its one file."""
