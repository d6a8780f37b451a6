"""The settings of a run: plain values that a TOML file, a flag or a config.json can hold, and the parts they name."""

from __future__ import annotations

import math
import os
import reprlib
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pathline.conditions import CLASS, KINDS
from pathline.data.captions import unseen_pairs
from pathline.data.files import ARRAYS, FileSource
from pathline.data.layouts import AUTO, Layout, check_kind
from pathline.data.layouts import KINDS as KINDS_OF_ARRAY
from pathline.data.named import source_of
from pathline.data.normalisation import Normalisation
from pathline.data.pictures import sides_of
from pathline.data.source import Samples
from pathline.fields.network import NetworkField
from pathline.fields.preconditioned import Preconditioned
from pathline.networks.mlp import MLP
from pathline.networks.text import TextForm
from pathline.networks.unet import UNet
from pathline.noise import Noise
from pathline.paths.bridge import BridgePath
from pathline.paths.couplings import Coupling, OptimalTransportCoupling
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import VELOCITY, EDMPrediction, Prediction
from pathline.paths.schedules import Schedule
from pathline.specs import build, did_you_mean
from pathline.text.encoder import Encoder
from pathline.training.augment import Augmentation
from pathline.training.loss import ALL, MatchingLoss
from pathline.training.precision import device_of, precision_of
from pathline.training.times import Times
from pathline.training.weights import Weight

NETWORKS = {"mlp": "vectors", "unet": "images"}
CHOICES = {
    "lr_schedule": ("cosine", "constant"),
    "precision": ("auto", "float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}
COUNTS = "steps batch_size accumulate width depth skips keep log_every evaluate_every checkpoint_every".split()
MOST = {  # beyond what any machine holds; what this one cannot hold is seen when it is made
    **{"width": 2**16, "depth": 2**10, "batch_size": 2**24, "accumulate": 2**24},
    **dict.fromkeys("steps skips keep log_every evaluate_every checkpoint_every preview_every".split(), 2**53),
    **{"workers": 2**10, "size": 2**16},
}
OF_THE_MODEL = "schedule prediction bridge network width depth is_conditional".split()  # what weights mean
BESIDE_THE_MODEL = (  # what may be another when a run goes on
    *("device", "workers", "compile", "shard", "accumulate", "keep", "checkpoint_every", "checkpoint_seconds"),
    *("log_every", "evaluate_every", "preview_every", "tensorboard"),
)
OF_A_LEG = (  # how weights are found, whatever they are: what may be another from a step on, as a leg of its own
    *("steps", "batch_size", "learning_rate", "lr_schedule", "warmup", "weight_decay", "clip", "ema", "skips"),
    *("precision", "guidance"),
)


ROUNDINGS = (math.floor, math.ceil)


@dataclass(frozen=True)
class Config:
    """Everything that settles a run. Objects are named as in `specs`: "polynomial:3", "logit-normal:0,1"."""

    data: str = "digits"
    """Digits, shapes (with captions), a toy (symmetric, random, checkerboard, rings, moons, spiral, pinwheel); a table
    (.csv, .csv.gz or .parquet), an array (.npy or .npz), a folder of images, an IDX file such as those of MNIST; or
    hf:NAME, for a data set of Hugging Face."""
    label: str = ""
    """The column of a table that holds the class, by its name, or by its number if a .csv has no header; or the key
    of a metadata.jsonl, .csv or .parquet beside images."""
    numbers: str = ""
    """The columns of a table that hold numbers to condition on, separated by commas; those of an .npz are in its y."""
    columns: str = ""
    """The columns of a table that samples are made of, separated by commas; all but those named otherwise, unless
    given."""
    drop_columns: str = ""
    """The columns of a table that are not used, separated by commas; --drop COLUMN,COLUMN says the same."""
    text: str = "none"
    """What captions are read by: none, they are not used; words, whose vectors are learned with the model; minilm,
    clip:NAME or t5:NAME, whose vectors are given (the extra of that name: text). Captions are those of shapes,
    in the column text or caption of a metadata.jsonl, .csv or .parquet, in a .txt beside each image, or in y of an
    .npz."""
    pairs: float = 0.0
    """The share of captions `X with Y` that are held out as whole pairs, X and Y being seen with others."""
    kind: str = AUTO
    """What an array holds: images (n, C, H, W), (n, H, W, C) or (n, H, W); series (n, C, L); points (n, N, C); volumes
    (n, C, D, H, W); video (n, T, C, H, W); or auto, for what its shape says."""
    size: int | str = 0
    """The sides of images, which are resized and cut to them: 32, or 32x48 for height x width; 0 for as they are."""
    skip_bad: bool = False
    """Whether images that cannot be read are left out; they are named either way."""
    held_out: float = 0.2
    """The share of the data that is held out for validation."""
    start: str = "noise"
    """What paths begin at: noise, or another data set, named as in data, for a bridge between the two. A table with a
    class is file:PATH,COLUMN."""
    paired: bool = False
    """Whether sample i of start belongs to sample i of the data, so that training pairs those; at random unless so."""
    bridge: float = 0.0
    """The sigma of a bridge: 0 for straight lines, more for Brownian bridges."""
    schedule: str = "linear"
    """The noise schedule: linear, linear:SIGMA_MIN, cosine, polynomial:P, square-root, variance-preserving,
    sub-variance-preserving, variance-exploding (with prediction edm:1). A bridge has none."""
    prediction: str = "velocity"
    """What the network predicts: velocity, score, noise, data, v, edm:1; two heads as velocity,score."""
    coupling: str = "independent"
    """Which noise goes with which data: independent, optimal-transport (within classes if there are any), and
    optimal-transport:is_global=true, where several processes train, to pair the whole batch."""
    times: str = "uniform"
    """When along the path training looks: uniform, logit-normal."""
    weight: str = "unit"
    """How much an error counts: unit; balanced, for targets that grow without bound; or error-as:KIND."""
    is_conditional: bool = True
    """Whether the classes, numbers and captions that come with the data are used, if there are any."""
    network: str = "unet"
    """The network: mlp for vectors, unet for images."""
    width: int = 32
    """Of the network's layers."""
    depth: int = 2
    """Blocks of the mlp, or levels of the unet."""
    steps: int = 1000
    """Optimizer steps."""
    batch_size: int = 128
    """Samples in a step."""
    learning_rate: float = 2e-3
    """The highest, after a warm-up."""
    lr_schedule: str = "cosine"
    """What the learning rate does then: cosine, it falls to 0; constant."""
    warmup: float = 0.05
    """The share of the steps in which the learning rate rises."""
    weight_decay: float = 0.0
    """Of AdamW."""
    clip: float = 1.0
    """The largest norm of a gradient."""
    ema: float = 0.995
    """The decay of the averaged weights, which are the ones that are sampled."""
    drop: float = 0.1
    """The share of samples that lose all their conditions in training, so that guidance can be used."""
    drop_each: str = ""
    """The share of each kind that is dropped beside that, on its own, such as class=0.1,text=0.3."""
    guidance: float = 2.0
    """The guidance scale of the pictures."""
    seed: int = 0
    """Of everything random."""
    augmentation: str = "none"
    """What is done to the data: none; flip, mirrored images; dequantise:BIN, uniform noise over bins of whole numbers,
    in the units of the model (0.125 for digits), for a model whose likelihood is asked for."""
    accumulate: int = 1
    """The pieces that the samples of a step are taken in, to save memory."""
    precision: str = "auto"
    """What the network computes in: float32, bfloat16 (its weights stay float32), or auto: what pays here."""
    device: str = "auto"
    """Where it computes: cpu, cuda, or auto."""
    workers: int = 0
    """Threads that make batches ahead, beside a GPU or for costly transport; 0, none, where the same cores train."""
    compile: bool = False
    """Whether the network is compiled: slow to start, then faster."""
    shard: bool = False
    """Whether processes started by torchrun share the weights out (FSDP2); without it each has all of them (DDP)."""
    skips: int = 20
    """Updates in a row that may be left out, for a gradient that is not finite, before training stops."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    evaluate_every: int = 250
    """Steps between validations."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    checkpoint_seconds: float = 600.0
    """Seconds between checkpoints, at most."""
    keep: int = 3
    """Checkpoints that are kept, the newest."""
    preview_every: int = 0
    """Steps between pictures of samples in samples/preview-STEP.png; 0 for none."""
    tensorboard: bool = False
    """Whether to write for TensorBoard as well, with the extra of that name."""

    def __post_init__(self) -> None:
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, most in MOST.items():
            value = getattr(self, name)
            if isinstance(value, int) and value > most:
                raise ValueError(f"{name} must be at most {most:,}, got {value:,}")
        sides_of(self.size)
        check_kind(self.kind)
        for name in ("workers", "preview_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}{did_you_mean(getattr(self, name), known)}")
        for name in ("drop", "ema", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to below 1, got {getattr(self, name)}")
        if not 0 <= self.pairs < 1:
            raise ValueError(f"pairs must be a share from 0 to below 1, got {self.pairs}")
        if self.pairs and not self.uses_text:
            raise ValueError(f"pairs are of captions, got {self.pairs} and text {self.text!r}; use --text words")
        self.shares()
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be a share between 0 and 1, got {self.held_out}")
        for name in ("learning_rate", "clip", "checkpoint_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if math.isinf(self.learning_rate):
            raise ValueError(f"learning_rate must be finite, got {self.learning_rate}")
        if not (math.isfinite(self.guidance) and math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(
                f"guidance and weight_decay must be finite, and weight_decay 0 or more, got {self.guidance} and "
                f"{self.weight_decay}"
            )
        if not 0 <= self.bridge < math.inf or (self.bridge and not self.is_bridge):
            raise ValueError(
                f"bridge must be 0 or more, and start name its samples, got {self.bridge} and {self.start!r}"
            )
        if self.paired:
            self._check_pairs()
        if self.is_bridge and self.schedule != "linear":
            raise ValueError(f"schedule must be left out for a bridge from {self.start!r}, got {self.schedule!r}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be a whole number from 0 to 2**63 - 1, got {self.seed}")
        if self.network not in NETWORKS:
            raise ValueError(f"unknown network {self.network!r}{did_you_mean(self.network, NETWORKS)}")

    def _check_pairs(self) -> None:
        if not self.is_bridge:
            raise ValueError(
                "paired needs start to name the samples that those of the data belong to; use --start FILE"
            )
        for name, plain, why in (
            ("coupling", "independent", "it would pair them anew"),
            ("augmentation", "none", "it would change one of a pair alone"),
        ):
            if getattr(self, name) != plain:
                raise ValueError(f"{name} must be {plain} for paired samples, as {why}, got {getattr(self, name)!r}")

    def resolved(self) -> Config:
        """The settings with what the hardware answers in place of `auto`, as far as the model depends on it."""
        device = device_of(self.device)
        return replace(self, precision=precision_of(self.precision, device, self.network == "unet"))

    @property
    def uses_text(self) -> bool:
        """Whether captions are conditions."""
        return self.text != "none"

    def encoder(self) -> Encoder | None:
        """What captions are read by, before it has seen those of the data; None if they are not used."""
        return build(Encoder, self.text) if self.uses_text else None

    def shares(self) -> float | dict[str, float]:
        """The share of conditions that are dropped in training: of all at once, or of each kind as well.

        Raises:
            ValueError: If `drop_each` cannot be read.
        """
        if not self.drop_each:
            return self.drop
        shares = {}
        for part in self.drop_each.split(","):
            kind, _, share = part.partition("=")
            try:
                shares[kind.strip()] = float(share)
            except ValueError:
                shares[kind.strip()] = math.nan
        if not (shares.keys() <= {*KINDS} and all(0 <= share < 1 for share in shares.values())):
            raise ValueError(
                f"drop_each must be shares from 0 to below 1 of {', '.join(KINDS)}, such as class=0.1,text=0.3, got "
                f"{self.drop_each!r}"
            )
        return {ALL: self.drop, **shares}

    @property
    def is_bridge(self) -> bool:
        """Whether paths begin at samples, not at noise."""
        return self.start != "noise"

    def load(self) -> Samples:
        """The data, without its classes or numbers unless they are used.

        Raises:
            ValueError: If it names neither a data set nor a file of a known kind.
        """
        text = self.uses_text and self.is_conditional
        source = source_of(
            self.data,
            self.label,
            self.numbers,
            self.size,
            self.skip_bad,
            text=text,
            kind=self.kind,
            columns=self.columns,
            drop_columns=self.drop_columns,
        )
        if isinstance(source, FileSource):
            self._check_layout(source.layout())
        sides = sides_of(self.size)
        if sides and self.network == "unet":
            self._check_sides(sides)
        samples = source.load()
        samples = samples.keeping([kind for kind in KINDS if self.is_conditional and (kind != "text" or text)])
        if not self.pairs:
            return samples
        pairs = torch.tensor(unseen_pairs(samples.captions, self.pairs, self.seed))
        unseen = pairs[samples.y["text"]]
        return replace(samples, unseen=unseen if samples.unseen is None else samples.unseen | unseen)

    def load_start(
        self, shape: tuple[int, ...], units: Normalisation, count: int | None = None, columns: tuple[str, ...] = ()
    ) -> Tensor | None:
        """What paths begin at, in the units of the model; None for noise.

        Args:
            shape: Of a sample of the data.
            units: Of the data.
            count: The samples of the data, held-out ones too; those of a paired start must be as many.
            columns: The names of the data's columns: those of the start are taken by their names, in this order.

        Raises:
            ValueError: If its samples have another shape than the data, lack a column, or are paired and not as many.
        """
        if not self.is_bridge:
            return None
        is_of_images = len(shape) == 3 and self.start.lower().endswith(ARRAYS)
        found = source_of(self.start, kind="images" if is_of_images else AUTO).load()
        found = found.ordered(columns, f"start must have the columns of {self.data}, and {self.start}")
        if found.shape != shape:
            raise ValueError(
                f"start must have samples of the data's shape, {shape}, got {found.shape} from {self.start}"
            )
        if self.paired and count is not None and len(found) != count:
            raise ValueError(
                f"start must have as many samples as the data for --paired, {count:,} of {self.data}, got "
                f"{len(found):,} of {self.start}; leave out --paired to pair them at random"
            )
        return units.into(found.x[:])

    def field(
        self, shape: tuple[int, ...], classes: int, numbers: int = 0, text: TextForm | None = None
    ) -> NetworkField:
        """A new field for samples of this shape: the same weights for the same seed."""
        names = self.prediction.split(",")
        heads = tuple(build(Prediction, name.strip()) for name in names)
        schedule = build(Schedule, self.schedule)
        path = BridgePath(self.bridge) if self.is_bridge else GaussianPath(schedule, scale=1.0)  # data is normalised
        build(Augmentation, self.augmentation)(torch.zeros(1, *shape), Noise(0))  # refused now if these cannot have it
        whole = path.interval(heads, VELOCITY)
        if isinstance(path, BridgePath) and path.sigma and not (0.0 in whole and 1.0 in whole):
            raise ValueError(
                f"prediction must have a velocity head for {path}, as that is read at both ends, got "
                f"{self.prediction!r}; use velocity,score"
            )
        of_edm = sum(isinstance(head, EDMPrediction) for head in heads)
        if len(set(heads)) < len(heads) or of_edm > 1:
            raise ValueError(f"prediction must name different heads, and edm once at most, got {self.prediction!r}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self._network(shape, classes or None, len(heads), numbers or None, text)
        for head in heads:
            if isinstance(head, EDMPrediction):
                network = Preconditioned(network, path.schedule, head.sigma_data)
        return NetworkField(network, path, heads if len(heads) > 1 else heads[0])

    def loss(self, field: NetworkField, start: Tensor | None = None) -> MatchingLoss:
        """The training loss of a field, on paths that begin at samples of `start`, or at noise.

        Raises:
            ValueError: If the target of a head is infinite at an end, and nothing keeps the loss from it.
        """
        ends = torch.tensor([0.0, 1.0])
        wild = [head.name for head in field.heads if not field.path.is_bounded(head, ends).all()]
        if wild and (self.weight, self.times) == ("unit", "uniform"):
            raise ValueError(
                f"the target of a {wild[0]} prediction is infinite at an end of {field.path}, and the loss with it; "
                "use weight balanced, or times such as uniform:0.01,0.99"
            )
        is_conditional = field.null is not None
        coupling, weight = build(Coupling, self.coupling), build(Weight, self.weight)
        is_within = isinstance(coupling, OptimalTransportCoupling) and coupling.is_within_classes
        kinds = tuple(field.null or ())
        if is_within and is_conditional and kinds != (CLASS,):
            raise ValueError(
                "coupling must be independent for a model conditioned on more than classes, to which transport keeps, "
                f"got {self.coupling!r}; optimal-transport:0 goes across all, which biases a conditional model"
            )
        if self.drop_each and len(kinds) < 2:
            raise ValueError(
                f"drop_each is for a model of several kinds of condition, got {self.drop_each!r}; drop is the share of "
                "one"
            )
        shares = self.shares()
        if isinstance(shares, dict) and (odd := [kind for kind in shares if kind not in (ALL, *kinds)]):
            raise ValueError(
                f"drop_each must be shares of what the model is conditioned on, {', '.join(kinds)}, got "
                f"{odd[0]!r} in {self.drop_each!r}; leave it out"
            )
        for head in field.heads:
            weight.at(torch.tensor([0.5]), field.path, head)  # a weight that this path cannot have is refused now
        return MatchingLoss(
            field,
            coupling=coupling,
            times=build(Times, self.times),
            weight=weight,
            drop=shares if is_conditional else 0.0,
            seed=self.seed,
            source=start,
            is_paired=self.paired,
        )

    def _network(
        self, shape: tuple[int, ...], classes: int | None, heads: int, numbers: int | None, text: TextForm | None
    ) -> nn.Module:
        self._check_shape(shape)
        self._check_memory()
        if self.network == "unet":
            return UNet(shape[0], self.width, self.depth, classes, heads, numbers=numbers, text=text)
        return MLP(shape[0], self.width, self.depth, classes, heads, numbers, text)

    def _check_memory(self) -> None:
        """Refuse a network whose weights alone are more than this machine holds: it would be killed without a word."""
        is_unet = self.network == "unet"
        least = 9 * (self.width * 2 ** (self.depth - 1)) ** 2 if is_unet else self.width**2 * self.depth
        held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if 4 * least > held:
            raise ValueError(
                f"width and depth must make a network that fits memory, got {self.width} and {self.depth}, which make "
                f"at least {least:.2g} weights of 4 bytes, and {held / 1e9:,.0f} GB are here; lower them"
            )

    def _check_layout(self, layout: Layout | None) -> None:
        """Refuse, before they are read, samples that no network is for."""
        if layout is None:
            return
        if layout.kind in NETWORKS.values():
            self._check_shape(layout.shape)
            return
        how = "taken for" if layout.is_guess else "said to be"
        other = f", or say what they are with --kind {'|'.join(KINDS_OF_ARRAY)}" if layout.is_guess else ""
        raise ValueError(
            f"{self.data} has samples of shape {layout.shape}, {how} {layout.kind} {layout.axes}, and there is no "
            f"network for {layout.kind} yet; train on them as vectors: save x.reshape(len(x), -1), and use the preset "
            f"vectors{other}"
        )

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse samples of a shape that the network is not for."""
        fits = {1: "mlp", 3: "unet"}.get(len(shape))
        if fits is None:
            raise ValueError(
                f"no network is for samples of shape {shape}, which {self.data} has; save them as vectors, with "
                "x.reshape(len(x), -1), or as images of shape (channels, height, width)"
            )
        if self.network != fits:
            raise ValueError(
                f"network {self.network!r} is for {NETWORKS[self.network]}, but {self.data} has samples of shape "
                f"{shape}; use {fits!r}"
            )
        if self.network == "unet":
            self._check_sides(shape[1:])

    def _check_sides(self, sides: tuple[int, ...]) -> None:
        """Refuse images that the U-Net cannot halve as often as it is deep."""
        factor = 2 ** (self.depth - 1)
        if any(side % factor for side in sides):
            below, above = ([max(factor, factor * round_(side / factor)) for side in sides] for round_ in ROUNDINGS)
            near = dict.fromkeys(f"{height}x{width}" for height, width in (below, above))
            deepest = max(depth for depth in range(1, self.depth) if not any(side % 2 ** (depth - 1) for side in sides))
            raise ValueError(
                f"sides of images must be multiples of {factor} for a unet of --depth {self.depth}, which halves them "
                f"{self.depth - 1} times, got {sides[0]}x{sides[1]} (height x width); resize images of a folder with "
                f"--size {' or '.join(near)}, or use --depth {deepest}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def presets() -> dict[str, Path]:
    """The presets inside the package, by name."""
    folder = Path(str(files("pathline") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_config(name: str) -> Config:
    """The settings of a preset, or of a TOML file.

    Raises:
        ValueError: If there is no such preset or file, or it has an unknown field or a value of the wrong type.
    """
    known = presets()
    if name in known:
        return config_from_toml(known[name])
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise ValueError(f"there is no file {name}")
        return config_from_toml(Path(name))
    raise ValueError(f"unknown preset {name!r}{did_you_mean(name, known)}, or a file ending in .toml")


def config_from_toml(path: Path) -> Config:
    """The settings in a file; a key `preset` names those that it begins from."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    if not values:
        raise ValueError(f'{path} is empty, and names no settings; begin from a preset in it: preset = "digits"')
    base = values.pop("preset", None)
    if base is None:
        return config_from(values, path)
    if not isinstance(base, str) or base not in presets():
        raise ValueError(f"{path}: preset must be the name of one, got {base!r}{did_you_mean(str(base), presets())}")
    return config_from(values, path, load_config(base))


def config_from(values: dict[str, Any], path: Path, base: Config | None = None) -> Config:
    """The settings that plain values from a file make, over those of `base`."""
    kinds = {field.name: type(field.default) for field in fields(Config)}
    for key, value in values.items():
        if key not in kinds:
            raise ValueError(f"{path} has an unknown field {key!r}{did_you_mean(key, kinds)}")
        if key == "size" and type(value) is str:  # 32x48, beside a whole number
            continue
        if kinds[key] is float and type(value) is int and abs(value) < 2**63:
            values[key] = float(value)
        elif type(value) is not kinds[key]:
            raise ValueError(f"{path}: {key} must be of type {kinds[key].__name__}, got {reprlib.repr(value)}")
    try:
        return replace(base or Config(), **values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
