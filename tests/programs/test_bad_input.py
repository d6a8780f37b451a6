"""Bad input, as a table: what is given, and what is said.

Every row ends with the exit code 2 and one clear sentence: the argument, file, row or column, what is needed, what was
found, and the way out. There is no traceback, and nothing is made, changed or lost.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import pathline as pl
from pathline.cli.main import main

RUNS = ("digits", "moons", "flowers", "bare", "bridge")
OBJECTS = np.array([[1, "a"]], dtype=object)


class Row(NamedTuple):
    """A case.

    Attributes:
        case: In a few words.
        given: A command line, in which {here} is a folder of its own and {digits}, {moons}, {flowers} and {bare} are
            runs, and so is {bridge}; or something to call that must raise a ValueError, given the folder.
        said: Words that the answer must hold.
        files: What the folder holds, by name: text, bytes, an array, or the arrays of an .npz.
        damage: A file of {digits} and what becomes of its bytes.
    """

    case: str
    given: str | Callable[[Path], object]
    said: tuple[str, ...]
    files: Mapping[str, Any] = {}
    damage: tuple[str, Callable[[bytes], bytes]] | None = None


def table(case: str, text: str | bytes, *said: str, flags: str = "") -> Row:
    """A row about a .csv."""
    return Row(case, f"train vectors --data {{here}}/my.csv --out {{here}}/new {flags}", said, {"my.csv": text})


def array(case: str, content: Any, *said: str, flags: str = "") -> Row:
    """A row about an .npz, or a .npy if it is one array or bytes."""
    name = "my.npz" if isinstance(content, dict) else "my.npy"
    return Row(case, f"train vectors --data {{here}}/{name} --out {{here}}/new {flags}", said, {name: content})


COMMANDS = [
    Row("unknown command", "trian digits", ("unknown command 'trian'", "did you mean 'train'")),
    Row("unknown command near none", "xyz", ("unknown command 'xyz'", "train, sample")),
    Row("unknown preset", "train digit", ("unknown preset 'digit'", "did you mean 'digits'")),
    Row("no preset", "train --steps 3", ("digits", ".toml", "--resume")),
    Row("unknown flag", "train digits --step 3", ("--step", "--steps")),
    Row("unknown flag of sample", "sample {digits} --cout 3", ("--cout", "--count")),
    Row("flag of the wrong type", "train digits --steps many", ("--steps", "many")),
    Row("no such file", "train {here}/nothing.toml", ("no file", "nothing.toml")),
    Row("not TOML", "train {here}/a.toml", ("a.toml is not TOML", "line 1"), {"a.toml": "steps = = 3"}),
    Row("TOML in Latin-1", "train {here}/a.toml", ("a.toml is not TOML", "utf-8"), {"a.toml": b"# \xe9"}),
    Row(
        "file with an unknown field", "train {here}/a.toml", ("a.toml", "'stepz'", "did you mean 'steps'"),
        {"a.toml": "stepz = 3"},
    ),
    Row("file with a wrong type", "train {here}/a.toml", ("a.toml", "steps", "int", "'1'"), {"a.toml": "steps = '1'"}),
    Row(
        "file with a wrong value", "train {here}/a.toml", ("a.toml", "steps must be at least 1", "0"),
        {"a.toml": "steps = 0"},
    ),
    Row("file with a wrong preset", "train {here}/a.toml", ("a.toml", "preset", "3"), {"a.toml": "preset = 3"}),
    Row("file from no preset", "train {here}/a.toml", ("a.toml", "preset", "b.toml"), {"a.toml": "preset = 'b.toml'"}),
    Row("steps of nothing", "train digits --steps 0", ("steps must be at least 1", "0")),
    Row("negative seed", "train digits --seed -1", ("seed", "-1")),
    Row("held out share", "train digits --held-out 1.5", ("--held-out", "1.5")),
    Row("learning rate", "train digits --learning-rate 0", ("--learning-rate must be positive", "0")),
    Row("weight decay", "train moons --steps 1 --weight-decay -1", ("weight", "-1")),
    Row("guidance", "train moons --steps 1 --guidance nan", ("guidance", "nan")),
    Row("bridge from noise", "train moons --bridge 0.5", ("bridge", "start", "0.5")),
    Row("bridge from another shape", "train moons --start digits --out {here}/a", ("start", "(2,)", "(1, 8, 8)")),
    Row("bridge from unknown data", "train moons --start ring --out {here}/a", ("'ring'", "did you mean 'rings'")),
    Row(
        "score of a straight bridge", "train moons --start rings --prediction velocity,score --out {here}/a",
        ("no score", "sigma > 0"),
    ),
    Row("augmentation", "train moons --augmentation flop --out {here}/a", ("unknown augmentation 'flop'", "'flip'")),
    Row("flipped vectors", "train moons --augmentation flip --out {here}/a", ("flip is for images", "(1, 2)")),
    Row(
        "bridge without weights", "train digits --data moons --network mlp --start rings --bridge 1 --out {here}/a",
        ("infinite", "velocity", "weight balanced"),
    ),
    Row(
        "bridge without a score head", "train moons --start rings --bridge 1 --prediction data --out {here}/a",
        ("data alone", "score head"),
    ),
    Row("renewal of a bridge", "sample {bridge} --sampler ddim", ("Gaussian path", "BridgePath", "ODESampler")),
    Row("standard deviation of EDM", "train moons --prediction edm:0 --out {here}/a", ("sigma_data", "positive", "0")),
    Row("noise left on data", "train moons --schedule linear:1 --out {here}/a", ("sigma_min", "below 1", "1")),
    Row("noise that rises", "train moons --schedule variance-exploding:3,2 --out {here}/a", ("low", "high", "3", "2")),
    Row("unknown data", "train digits --data digit", ("unknown data 'digit'", "did you mean 'digits'", ".csv")),
    Row("toy of nothing", "train rings --data rings:0", ("radii must be", "positive", "0")),
    Row("toy with too many arguments", "train moons --data moons:1,2", ("'moons' takes (std)", "[1, 2]")),
    Row("no points of a toy", "train moons --data toy:moons,0", ("count must be at least 1", "0")),
    Row("unknown schedule", "train digits --schedule cosin", ("'cosin'", "did you mean 'cosine'")),
    Row("unknown prediction", "train digits --prediction nose", ("'nose'", "did you mean 'noise'")),
    Row("unknown network", "train digits --network unett", ("'unett'", "did you mean 'unet'")),
    Row("network for other data", "train digits --network mlp", ("'mlp' is for vectors", "'unet'")),
    Row("width", "train digits --width 12", ("width a multiple of 8", "12")),
    Row("depth", "train digits --steps 1 --width 8 --depth 5", ("--depth 5", "multiples of 16", "8x8", "--depth 4")),
    Row(
        "folder below a file", "train moons --steps 1 --out {here}/a.txt/run", ("cannot write", "a.txt", "--out"),
        {"a.txt": "mine"},
    ),
    Row(
        "folder that is a file", "train moons --steps 1 --out {here}/plain.txt", ("plain.txt", "--out"),
        {"plain.txt": "mine"},
    ),
    Row("folder with a run", "train moons --steps 1 --out {moons}", ("exists already", "--resume", "--overwrite")),
    Row(
        "overwriting no run", "train moons --steps 1 --out {here} --overwrite",
        ("exists already and is no run", "neither --resume nor --overwrite", "another folder with --out"),
        {"thesis.tex": "mine"},
    ),
    Row("resume of nothing", "train --resume {here}/nothing", ("nothing", "no run folder")),
    Row("resume with another model", "train --resume {digits} --width 16", ("--width", "weights", "train a new run")),
    Row("resume to the steps that are made", "train --resume {digits} --steps 6 --ema 0.5", ("--ema", "--steps 12")),
    Row("resume to fewer steps", "train --resume {digits} --steps 5", ("--steps", "more than the 6", "got 5")),
    Row("resume of a preset", "train digits --resume {digits}", ("--resume", "leave out digits")),
    Row("resume elsewhere", "train --resume {digits} --out {here}/a", ("--resume", "leave out --out")),
    Row("missing run", "sample {here}/nothing", ("nothing", "no run folder", "pathline train")),
    Row("missing run of info", "info {here}/nothing", ("nothing", "no run folder")),
    Row("no run at all", "sample", ("RUN is missing", "the run folder")),
    Row("class out of range", "sample {digits} --class 10", ("--class", "0 to 9", "'10'")),
    Row("negative class", "sample {digits} --class=-1", ("--class", "0 to 9", "'-1'")),
    Row("class that is no digit", "sample {digits} --class ²", ("--class", "0 to 9", "'²'")),
    Row("unknown class", "sample {moons} --class middle", ("--class", "upper, lower", "'middle'")),
    Row("class without classes", "sample {bare} --class 1", ("--class needs a model with classes", "bare")),
    Row("guidance without classes", "sample {bare} --guidance 2", ("--guidance needs a model with classes", "bare")),
    Row("guidance that is no number", "sample {digits} --guidance nan", ("--guidance must be a number", "nan")),
    Row("negative sigma", "sample {digits} --sigma=-0.5", ("sigma must be a finite number, 0 or more", "-0.5")),
    Row("negative sigma of beta", "sample {digits} --sigma beta:-1", ("0 or more", "-1")),
    Row("infinite sigma", "sample {digits} --sigma inf", ("finite", "inf")),
    Row("unknown sigma", "sample {digits} --sigma bta:1", ("unknown sigma 'bta'", "did you mean 'beta'")),
    Row("sigma of a function", "sample {moons} --steps 1 --sigma function:1", ("sigma", "function")),
    Row("sigma of a constant", "sample {moons} --steps 1 --sigma constant", ("constant", "takes")),
    Row("sigma with an ODE solver", "sample {digits} --sigma 0.5 --sampler heun", ("--sigma is for SDE", "heun")),
    Row("sigma with ddim", "sample {digits} --sigma 0.5 --sampler ddim", ("--sigma is for SDE", "ddim")),
    Row("SDE solver without sigma", "sample {digits} --sampler euler-maruyama", ("euler-maruyama", "--sigma")),
    Row("unknown sampler", "sample {digits} --sampler huen", ("unknown sampler 'huen'", "did you mean 'heun'")),
    Row("unknown sampler near none", "sample {digits} --sampler xyz", ("unknown sampler 'xyz'", "heun", "dopri5")),
    Row("eta", "sample {digits} --sampler ddim:2", ("eta must be between 0", "2")),
    Row("no steps", "sample {digits} --steps 0", ("steps must be at least 1", "0")),
    Row("no evaluations", "sample {digits} --evaluations 0", ("evaluations must be at least 1", "0")),
    Row("too few", "sample {digits} --evaluations 1 --sampler heun", ("evaluations must be at least 2", "1")),
    Row("order", "sample {digits} --sampler dpm:9", ("order must be 1, 2, 3 or 4", "9")),
    Row("order of a half", "sample {digits} --sampler dpm:2.5", ("order of --sampler dpm", "whole number", "'2.5'")),
    Row("churn of words", "sample {digits} --sampler churn:heun", ("churn of --sampler churn", "a number", "'heun'")),
    Row("objects in words", "sample {digits} --sampler ddim:1,grid=cosine", ("ddim takes eta", "1,grid=cosine")),
    Row("too many words", "sample {digits} --sampler deis:2,3", ("--sampler deis takes order", "2,3")),
    Row("sampler of parts", "sample {digits} --sampler sde --sigma 1", ("unknown sampler 'sde'", "euler-maruyama")),
    Row("family without sigma", "sample {digits} --sampler exponential-sde", ("exponential-sde", "--sigma")),
    Row("sigma without noise", "sample {digits} --sampler dpm --sigma 1", ("--sigma is for SDE", "dpm takes none")),
    Row("steps of its own", "sample {digits} --sampler dopri5 --steps 9", ("--steps", "9", "--evaluations caps them")),
    Row("grid of its own", "sample {digits} --sampler tsit5 --grid cosine", ("--grid", "tsit5", "its own steps")),
    Row("tolerance", "sample {digits} --sampler dopri5:0", ("rtol and atol must not both be 0",)),
    Row("unknown grid", "sample {digits} --grid shift", ("unknown grid 'shift'", "did you mean 'shifted'")),
    Row("grid of objects", "sample {digits} --grid quantile:1", ("unknown grid 'quantile'", "known are cosine")),
    Row("measured grid", "sample {digits} --grid curvature:3", ("'curvature' takes no arguments", "curvature:3")),
    Row("shift", "sample {digits} --grid shifted:0", ("shift must be positive", "0")),
    Row("kind of a bridge", "sample {bridge} --sampler dpm", ("kind must be VELOCITY", "BridgePath")),
    Row("tune of a bridge", "tune {bridge}", ("begins at noise", "bridge from rings", "sample it")),
    Row("tune of nothing", "tune {here}/nothing", ("nothing", "no run folder")),
    Row("tune to one call", "tune {digits} --evaluations 1", ("--evaluations must be at least 2", "1")),
    Row("tune on nothing", "tune {digits} --count 0", ("--count must be at least 1", "0")),
    Row("tune in no steps", "tune {digits} --steps 0", ("--steps must be at least 1", "0")),
    Row("tune without classes", "tune {bare} --guidance 2", ("--guidance needs a model with classes", "bare")),
    Row("tune with a seed", "tune {digits} --seed=-1", ("seed", "-1")),
    Row("compare of nothing", "compare {here}/nothing", ("nothing", "no run folder")),
    Row("compare at words", "compare {digits} --evaluations 5,x", ("--evaluations must be whole numbers", "'5,x'")),
    Row("compare at no calls", "compare {digits} --evaluations 0,5", ("--evaluations must be", "at least 1", "'0,5'")),
    Row("compare on nothing", "compare {digits} --count 0", ("--count must be at least 1", "0")),
    Row("compare to a table", "compare {digits} --out {here}/x.csv", ("--out must end in .png", "x.csv")),
    Row("compare without classes", "compare {bare} --guidance 2", ("--guidance needs a model with classes", "bare")),
    Row("steps and evaluations", "sample {digits} --steps 3 --evaluations 3", ("either steps or evaluations",)),
    Row("no samples", "sample {digits} --count 0", ("--count must be at least 1", "0")),
    Row("negative seed of sample", "sample {digits} --seed=-1", ("seed", "-1")),
    Row("too large a seed", "sample {digits} --seed 99999999999999999999", ("seed", "2**64")),
    Row("wrong suffix", "sample {digits} --out {here}/x.jpg", ("--out must end in .png, .npz or .csv", "x.jpg")),
    Row("pictures as a table", "sample {digits} --out {here}/x.csv", (".png or .npz", "(1, 8, 8)", "x.csv")),
    Row("out below a file", "sample {moons} --steps 1 --out {here}/a/x.png", ("here/a",), {"a": "a file"}),
]  # fmt: skip

TABLES = [
    table("text in a cell", "a,b\n1,2\n3,x\n", "my.csv, line 3, column 'b'", "a number, got 'x'", "--label"),
    table("text beside a label", "a,b\n1,2\nx,2\n1,2\n", "line 3, column 'a'", "got 'x'", "correct", flags="--label b"),
    table("empty cell", "a,b\n1,\n3,4\n", "line 2, column 'b'", "needs a number, got an empty cell", "remove the line"),
    table("NaN", "a,b\n1,2\n3,NaN\n", "line 3, column 'b'", "a finite number, got 'NaN'", "remove"),
    table("infinity", "a,b\n1,2\n-inf,3\n", "line 3, column 'a'", "a finite number, got '-inf'"),
    table("several", "a,b\n1,x\n3,\n5,inf\n", "line 2, column 'b'", "(and 2 more like it)"),
    table("too few cells", "a,b\n1,2\n3\n", "line 3", "needs 2 cells", "got 1"),
    table("too many cells", "a,b\n\n1,2\n3,4,5\n", "line 4", "needs 2 cells", "got 3"),
    table("a line below a cell of two lines", 'a,"b\nb"\n1,2\n3,x\n', "line 4, column 'b\\nb'", "'x'"),
    table("decimal comma", "a;b\n1,5;2\n3;4\n", "line 2, column 'a'", "got '1,5'"),
    table("digits with an underscore", "a,b\n1_000,2\n3,4\n", "line 2, column 'a'", "got '1_000'"),
    table("no such label", "petal,kind\n1,a\n2,b\n", "no column 'kin'", "did you mean 'kind'", flags="--label kin"),
    table("no such column number", "1,2\n3,4\n", "no column '3'", "known are 1, 2", flags="--label 3"),
    table("empty label", "a,b\n1,x\n2,\n", "line 3, column 'b'", "the name of a class", "empty", flags="--label b"),
    table("label of fractions", "a,b\n1,1.5\n2,1.5\n3,2\n", "column 'b' must be classes", "1.5", flags="--label b"),
    table("labels all different", "a,b\n1,x\n2,y\n3,z\n", "column 'b'", "a different one for each", flags="--label b"),
    table("label alone", "b\nx\ny\nx\n", "a column of numbers beside the label", "'b'", flags="--label b"),
    table("nothing", "", "my.csv is empty"),
    table("blank lines", "\n \n", "my.csv is empty"),
    table("header alone", "a,b\n", "my.csv has no rows below its header in line 1"),
    table("one row", "5,7\n", "held_out must leave samples on both sides", "of 1 samples"),
    table("column without a name", ",a\n0,1\n1,2\n", "line 1", "column 1 has no name", "index=False"),
    table("two columns of one name", "a,b,a\n0,1,2\n", "line 1", "two columns are called 'a'", "rename"),
    table("not UTF-8", b"a,b\n1,2\n\xe9,3\n", "my.csv, line 3", "UTF-8"),
    table("an endless cell", "a,b\n1,2\n" + "x" * 200_000 + ",1\n", "my.csv, line 3", "field larger"),
    Row("no such table", "train vectors --data {here}/my.csv", ("no file", "my.csv")),
    Row("a folder as a table", "train vectors --data {here}/my.csv", ("no file", "my.csv"), {"my.csv/a": "1"}),
    Row("table of another kind", "train vectors --data {here}/a.xlsx", ("a.xlsx", ".csv, .npy, .npz"), {"a.xlsx": ""}),
    Row("no data named", "train vectors", ("data must be named", "--data FILE", ".csv")),
    Row("label without a table", "train moons --label kind", ("label names a column of a .csv", "'kind'", "moons")),
    Row("table for the unet", "train digits --data {here}/a.csv", ("for images", "use 'mlp'"), {"a.csv": "1\n2\n3"}),
]  # fmt: skip

ARRAYS = [
    array("one dimension", np.zeros(5), "my.npy: x must have shape (samples, ...)", "got (5,)", "x[:, None]"),
    array("no dimension", np.zeros(()), "x must have shape (samples, ...)", "got ()"),
    array("no sample", np.zeros((0, 2)), "at least one sample", "(0, 2)"),
    array("NaN in an array", np.array([[1, 2], [3, np.nan]]), "x[1, 1] must be a finite number, got nan", "remove"),
    array("infinities", np.array([[1, np.inf], [3, -np.inf]]), "x[0, 1]", "got inf", "(and 1 more like it)"),
    array("complex numbers", np.zeros((3, 2), complex), "real numbers", "complex128"),
    array("words", np.array([["a", "b"]]), "real numbers", "<U1"),
    array("objects", OBJECTS, "my.npy", "objects, which are not read", "numpy.save"),
    array("no array", b"hello", "my.npy", "cannot be read as arrays", "numpy.save"),
    array("empty file", b"", "my.npy", "cannot be read as arrays"),
    array("cut short", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'", "my.npy", "cannot be read as arrays"),
    array("matrices", np.zeros((9, 3, 4)), "samples of shape (3, 4)", "reshape(len(x), -1)"),
    array("pictures for the mlp", np.zeros((9, 1, 4, 4)), "'mlp' is for vectors", "'unet'"),
    array("label of an array", np.zeros((3, 2)), "label names a column of a .csv", "'kind'", flags="--label kind"),
    array("no x", {"a": np.zeros((3, 2))}, "my.npz must hold an array x", "got a", "numpy.savez"),
    array("no arrays", {}, "my.npz must hold an array x", "got none"),
    array("more than x and y", {"x": np.zeros((3, 2)), "z": np.zeros(3)}, "array x, and y", "got x, z"),
    array("y of another length", {"x": np.zeros((3, 2)), "y": np.zeros(4)}, "y must have shape (3,)", "got (4,)"),
    array("words in columns", {"x": np.zeros((3, 2)), "y": np.full((3, 2), "a")}, "y must have shape (3,)", "(3, 2)"),
    array("too few numbers", {"x": np.zeros((3, 2)), "y": np.zeros((2, 2))}, "each of the 3 samples", "(2, 2)"),
    array("y with NaN", {"x": np.zeros((3, 2)), "y": np.array([0, np.nan, 0])}, "y[1] must be a finite number", "nan"),
    array("y unlike any other", {"x": np.zeros((3, 2)), "y": np.arange(3)}, "a different one for each of the 3"),
    array("y of complex numbers", {"x": np.zeros((3, 2)), "y": np.zeros(3, complex)}, "whole numbers or words"),
    array("y of objects", {"x": np.zeros((1, 2)), "y": OBJECTS[0]}, "my.npz", "objects, which are not read"),
    Row("no zip", "train vectors --data {here}/my.npz", ("my.npz", "cannot be read"), {"my.npz": b"PK\x03\x04hello"}),
]  # fmt: skip


IMAGES = [
    Row("empty folder", "train images --data {here} --out {here}/new", ("there are no images in", "PNG, JPEG")),
    Row("no such folder", "train images --data {here}/photos", ("unknown data", "photos", "a folder of images")),
    Row(
        "folder of texts", "train images --data {here} --out {here}/new", ("there are no images in",),
        {"a.txt": "1", "README": "2", "._b.png": "3"},
    ),
    Row("size of a table", "train vectors --data {here}/a.csv --size 8", ("size is for folders", "8"), {"a.csv": "1"}),
    Row("negative size", "train images --data {here} --size -1", ("size must be 0 or more", "-1")),
    Row("label of folders", "train images --data {here} --label a", ("key", "metadata.jsonl", "'a'"), {"x/a.png": "1"}),
    Row("no such IDX", "train images --data {here}/train-images-idx3-ubyte.gz", ("there is no file", "idx3-ubyte.gz")),
    Row("IDX cut", "train images --data {here}/a-ubyte", ("is cut short", "copy"), {"a-ubyte": b"\0\0\x08\x03"}),
    Row("folder of no IDX to train on", "train images --data idx:{here}", ("one IDX file of images", "got none")),
]  # fmt: skip


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def other(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return changed


STEP = "checkpoints/step-00000006"
DAMAGED = [
    Row(f"{case}, {command}", f"{command} {{digits}}", said, {}, (name, change))
    for command in ("sample", "info", "train --resume")
    for case, name, change, said in (
        ("settings cut short", "config.json", lambda b: b[:-9], ("config.json is damaged",)),
        ("settings of another kind", "config.json", lambda b: b"[]", ("config.json is damaged",)),
        ("type", "config.json", other(b'"steps": 6', b'"steps": "x"'), ("config.json", "steps", "'x'")),
        ("field", "config.json", other(b'"steps": 6', b'"stepz": 6'), ("config.json", "'stepz'", "'steps'")),
        ("value", "config.json", other(b'"width": 8', b'"width": 0'), ("config.json", "width", "0")),
        ("no shape", "config.json", other(b'"shape"', b'"shap"'), ("config.json is damaged", "shape")),
        ("scale", "config.json", other(b'"scale": 8.0', b'"scale": 0'), ("config.json is damaged", "scale positive")),
    )
] + [
    Row(
        f"other model, {command}", f"{command} {{digits}}",
        ("config.json has been edited", "width is 16", f"{STEP[12:]} was trained with 8", "put it back"), {},
        ("config.json", other(b'"width": 8', b'"width": 16')),
    )
    for command in ("sample", "train --resume")
] + [
    Row("a line of metrics", "info {digits}", ("metrics.jsonl", "line 1"), {}, ("metrics.jsonl", lambda b: b"5\n" + b)),
    Row("metrics", "info {digits}", ("metrics.jsonl", "line 1"), {}, ("metrics.jsonl", lambda b: b'{"st\n' + b)),
    Row(
        "other data", "train --resume {digits}", ("moons is not what", "was trained on", "restore"), {},
        ("config.json", other(b'"data": "digits"', b'"data": "moons"')),
    ),
] + [
    Row(f"{case}, {command}", f"{command} {{digits}}", (f"{name} is damaged", "train again"), {}, (name, change))
    for command in ("sample", "train --resume")
    for case, name, change in (
        ("weights", f"{STEP}/model.safetensors", flipped),
        ("averages", f"{STEP}/ema.safetensors", lambda b: b[:-1]),
        ("manifest", f"{STEP}/manifest.json", lambda b: b""),
    )
]  # fmt: skip

LIBRARY = [
    Row("count of a toy", lambda here: pl.Moons().sample(0), ("count must be at least 1", "0")),
    Row("size of a toy", lambda here: pl.Spiral(radius=-1), ("radius must be a positive number", "-1")),
    Row("seed", lambda here: pl.Rings().sample(3, seed=-1), ("seed must be a whole number from 0", "-1")),
    Row("points of another size", lambda here: pl.Pinwheel().log_prob(np_points(3)), ("shape (batch, 2)", "(4, 3)")),
    Row("scale", lambda here: pl.Normalisation(0.0, -1.0), ("scale positive", "-1")),
    Row("suffix", lambda here: pl.FileSource("my.xlsx").load(), (".csv, .npy, .npz", "my.xlsx")),
    Row("no file", lambda here: pl.FileSource(str(here / "my.npy")).load(), ("no file", "my.npy")),
    Row("no run", lambda here: pl.Run.open(here), ("no run folder", "config.json", "pathline train")),
    Row("no preset", lambda here: pl.load_config("digit"), ("unknown preset 'digit'", "did you mean 'digits'")),
    Row("setting", lambda here: pl.Config(batch_size=0), ("batch_size must be at least 1", "0")),
]


def np_points(dimension: int) -> Any:
    import torch

    return torch.zeros(4, dimension)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("row", COMMANDS + TABLES + ARRAYS + IMAGES + DAMAGED, ids=lambda row: row.case)
def test_a_command_answers_bad_input_by_one_clear_sentence(row, request, tmp_path, monkeypatch, capsys, contents):
    here = tmp_path / "here"
    here.mkdir()
    places = {"here": here} | {name: request.getfixturevalue(name) for name in RUNS if "{" + name + "}" in row.given}
    for name, content in row.files.items():
        write(here / name, content)
    if row.damage is not None:
        name, change = row.damage
        places["digits"] = shutil.copytree(places["digits"], tmp_path / "run")
        (places["digits"] / "README.md").unlink()  # so that resuming it has something to do
        if name.startswith("checkpoints"):  # else an earlier one would be used
            for step in (0, 3):
                shutil.rmtree(places["digits"] / f"checkpoints/step-{step:08d}")
        path = places["digits"] / name
        path.write_bytes(change(path.read_bytes()))
    before = [contents(folder) for folder in (tmp_path, *places.values())]
    monkeypatch.chdir(here)
    capsys.readouterr()
    code = main(row.given.format(**places).split())
    out, err = capsys.readouterr()
    assert code == 2
    for words in row.said:
        assert words in err
    assert "Traceback" not in err and out == ""
    assert len(err.splitlines()) == 1
    assert [contents(folder) for folder in (tmp_path, *places.values())] == before


@pytest.mark.fast
@pytest.mark.parametrize("row", LIBRARY, ids=lambda row: row.case)
def test_the_library_answers_bad_input_by_a_clear_error(row, tmp_path):
    with pytest.raises(ValueError) as error:
        row.given(tmp_path)
    for words in row.said:
        assert words in str(error.value)
