"""Physics-informed networks at the sizes of the literature: seven equations, equal evaluations."""
