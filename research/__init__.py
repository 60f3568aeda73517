"""Experiments of the lab book, docs/research: each module makes the figures of one page."""
