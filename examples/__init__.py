"""Examples to start from, each one file."""
