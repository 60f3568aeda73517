"""Prototype of the training of `general`.

python -m research.train_general NAME [key=value ...]
"""

import json
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)

import numpy as np

from jax_lbfgs_pi.policy import Rule
from jax_lbfgs_pi.training.evolution import EvolutionConfig, evolve

if __name__ == "__main__":
    name, *settings = sys.argv[1:]
    changes = {k: json.loads(v) for k, v in (s.split("=") for s in settings)}
    base = Rule(**changes.pop("base", {}))
    folder = Path("runs/research") / name
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / "log.jsonl").open("a")
    began = time.time()

    def on_generation(record, state):
        row = {**record._asdict(), "seconds": time.time() - began}
        log.write(json.dumps(row) + "\n")
        log.flush()
        if state.generation % 25 == 0:
            np.save(folder / f"weights-{state.generation:04d}.npy", np.asarray(state.weights))
        if state.generation % 5 == 0:
            gain = np.mean(record.loss) - np.mean(record.base_loss)
            print(f"{state.generation:4d} {row['seconds']:6.0f} s  gain {gain:+.3f} "
                  f"wins {record.wins:.2f}", flush=True)  # fmt: skip

    evolve(EvolutionConfig(**changes), base=base, on_generation=on_generation)
