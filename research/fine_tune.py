"""Does a policy of one's own help? Eleven families: `python -m research.fine_tune`.

Families are drawn once; three fifths of the tasks are trained on, a fifth chosen by, a fifth held
out (`lp.fine_tune`). Finished families are kept in `--out`, and what was interrupted goes on.
"""

import argparse
import json
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.evaluation.tables import Table, markdown
from jax_lbfgs_pi.training.fine_tune_report import verdict_table
from research.fine_tune_families import FAMILIES


def main():
    parser = argparse.ArgumentParser(prog="python -m research.fine_tune", description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--generations", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("runs/research/fine_tune"))
    args = parser.parse_args()
    rows = []
    for name in args.families:
        path = args.out / name / "row.json"
        if not path.exists():
            tasks = FAMILIES[name]()
            config = lp.FineTuneConfig(generations=args.generations)
            tuned = lp.fine_tune(tasks, config=config, out=args.out / name)
            verdict = tuned.verdict
            saved = verdict.saved
            cells = [
                f"{saved.value:z.0f} [{saved.low:z.0f}, {saved.high:z.0f}]",
                f"{verdict.room:z.0f}",
            ]
            evals = " / ".join(row[1] for row in verdict_table(tuned).rows)
            row = [tasks.name, *cells, evals, "use it" if verdict.helps else "keep general"]
            path.write_text(json.dumps(row))
            print(name, verdict.sentence, flush=True)
        rows.append(json.loads(path.read_text()))
    header = ["tasks", "saved, %", "in hindsight, %", "evaluations, medians", "verdict"]
    text = markdown(Table("Trained / general / rule / optax.lbfgs", header, rows))
    (args.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
