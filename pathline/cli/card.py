"""The model card: what a run was trained on, how, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping

from pathline.cli.samplers import words_of
from pathline.data.source import Samples
from pathline.metrics.distances import energy_distance, memorisation_ratio
from pathline.quoting import markdown
from pathline.runs import Run, guided, write_whole
from pathline.sampling.sample import sample
from pathline.sampling.samplers import default_sampler

MOST = 500  # samples for the figures
SEEN = 50_000  # training samples that they are held against
STEPS = 30

CARD = """# {name}

A {kind} of {data}, trained with pathline.

![samples](samples/grid.png)

{about}

## Figures

{figures}

Samples for these figures were made without guidance (w = 1),
by {sampler}, in {evaluations} calls of the network.
The loss by time is in `samples/loss.png`, the way from noise to data in `samples/noise-to-data.gif`.

## Settings

{settings}
"""


def write_card(run: Run, training: Samples, held_out: Samples) -> None:
    """Write README.md of a run, with figures measured now."""
    field, sampler = run.field(), default_sampler()
    real, y = run.some(held_out, MOST)
    shape = (len(real), *run.shape)
    made = sample(
        field if y is None else guided(field, y),
        shape,
        sampler,
        STEPS,
        seed=2,
        start=run.start(len(real), 2),
    )
    seen, kept = run.normalisation.into(training.some(SEEN)[0]), run.normalisation.into(real)
    span = float(seen.max() - seen.min()) if training.is_image else 1.0
    unit = "the data's range" if training.is_image else "the model, in which the data has standard deviation 1"
    last = [line for line in run.metrics() if "held_out_loss" in line][-1]
    about = {
        "data": training.title,
        **({"conditioned on": conditioned} if (conditioned := _conditioned(run)) else {}),
        "licence of the data": training.licence,
        "source of the data": training.source,
        "split": f"{len(training):,} samples to train on, {len(held_out):,} held out, never seen in training",
        "normalisation": run.normalised.removeprefix("normalised: "),
        **({"to note of the data": "; ".join(notes)} if (notes := run.normalisation.notes) else {}),
        **({"legs": "; ".join(map(str, run.legs))} if run.legs else {}),
        "weights": f"{sum(p.numel() for p in field.parameters()):,}, averaged over training",
        "trained in": f"{max(line.get('seconds', 0.0) for line in run.metrics()):.0f} s",
    }
    figures = {
        f"held-out matching loss at step {last['step']}": f"{last['held_out_loss']:.4f}",
    }
    if len(real) > 1:
        new = f"distance to the nearest{'' if len(seen) == len(training) else f' of {SEEN:,}'} training sample"
        figures |= {
            f"squared energy distance of {len(made)} samples to held-out data, in units of {unit}": (
                f"{energy_distance(made / span, kept / span):.4f}"
            ),
            f"{new}, over that of held-out data (1: as new as real data)": (
                f"{memorisation_ratio(made, seen, kept):.2f}"
            ),
        }
    text = CARD.format(
        name=markdown(run.folder.name),
        kind={"": "model", "class": "class-conditional model", "text": "text-conditional model"}.get(
            ",".join(run.kinds), "conditional model"
        ),
        data=markdown(run.config.data),
        about=_table(about),
        figures=_table(figures),
        sampler=words_of(sampler, STEPS),
        evaluations=STEPS * len(sampler.nodes),
        settings=_table(run.config.to_dict()),
    )
    write_whole(run.folder / "README.md", text)


def _conditioned(run: Run) -> str:
    """What samples are made under, beside classes."""
    captions = f"captions, read by {run.config.text} (sha256 {run.encoder.digest[:12]})" if "text" in run.kinds else ""
    return "; ".join(filter(None, (", ".join(run.numbers), captions)))


def _table(rows: Mapping[str, object]) -> str:
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {markdown(key)} | {markdown(value)} |" for key, value in rows.items())]
    )
