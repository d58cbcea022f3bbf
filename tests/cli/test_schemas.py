"""Every JSON document that a command prints, made by that command, is what docs/schemas says, field by field."""

import copy
import json
import re
import shlex
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from commands import HEIGHTS, ROWS, write_json
from tiny_models import few_labels, tiny_models

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "schemas"
SCHEMAS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}
PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
EXAMPLES = {
    name: (commands.splitlines(), json.loads(text))
    for name, commands, text in re.findall(
        r"^## ([\w-]+)\n(?:(?!^## ).)*?```sh\n(.*?)```\n\n```json\n(.*?)```", PAGE, flags=re.S | re.M
    )
}
"""By document: the commands, and what they print."""

OPTIONAL = {
    "predict": {"n", "k", "matrix", "m", "spread", "lower", "upper", "low", "high"},
    "evaluation": {"criteria", "long"},
    "report": {"long"},
    "progress": {"note"},
    "certificate": {"dual", "u_low", "G", "H", "order", "automorphisms"},
    "ablation": {"by_smallest_minor"},
}
"""Fields that a document need not have; all others must be there."""

P = [[5, -3, 8, 1, 0], [2, 7, -4, 6, 9], [-1, 4, 4, -8, 3], [6, 0, 5, 2, -7]]
SMALL = ["--rows", 8, "--groups", "9,4,2;5,2,1"]
FEW = {"low": [(5, 2, 1), (8, 4, 2), (9, 4, 2)], "medium": [(5, 2, 2), (9, 4, 4)], "high": [(4, 2, 2)]}


@pytest.fixture
def printed(mheight, folder):
    """Runs a command with --json: the document it prints."""

    def run(*arguments, code=0, stdin=b""):
        ended, out, err = mheight(*arguments, "--json", stdin=stdin)
        assert ended == code, err
        return json.loads(out, parse_constant=pytest.fail)

    return run


def refused(schema, document):
    return not jsonschema.Draft202012Validator(schema).is_valid(document)


def check(name, document):
    """It is what its schema says, and would not be with any of its fields left out, renamed, or with one more."""
    schema = SCHEMAS[name]
    assert document["format"] in formats(schema)
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
    for key in document:
        rest = {k: v for k, v in document.items() if k != key}
        if key not in OPTIONAL.get(name, ()):
            assert refused(schema, rest), key
        assert refused(schema, rest | {f"{key}_": document[key]}), key
        assert refused(schema, document | {key: {"of": [[None]]}}), key


def formats(schema):
    """The names that a document's format may have."""
    named = schema["properties"]["format"]
    return named["enum"] if "enum" in named else [named["const"]]


# the schemas themselves


def objects(schema, path=()):
    """All that describe objects, with where they stand."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, (*path, key))
    elif isinstance(schema, list):
        for i, value in enumerate(schema):
            yield from objects(value, (*path, i))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schemas_are_strict_and_say_what_fields_mean(name):
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] in formats(schema)
    assert all(re.fullmatch(r"moe_mheight [a-z ]+ \d+", name) for name in formats(schema))
    for path, part in objects(schema):
        if "properties" not in part:  # a map, from names that are data
            assert isinstance(part["additionalProperties"], dict), path
            continue
        assert part["additionalProperties"] is False, path
        assert set(part["required"]) == set(part["properties"]) - OPTIONAL.get(name, set()), path
        for key, value in part["properties"].items():
            assert {"description", "const", "enum"} & set(value) or "$ref" in value, (*path, key)


def test_a_nested_field_is_missed_too():
    document = EXAMPLES["heights"][1]
    assert not refused(SCHEMAS["heights"], document)
    for key in document["heights"][0]:
        less = copy.deepcopy(document)
        del less["heights"][0][key]
        assert refused(SCHEMAS["heights"], less), key


def test_the_page_lists_all_schemas():
    assert set(re.findall(r"\(schemas/([\w-]+)\.json\)", PAGE)) == set(SCHEMAS)
    assert set(re.findall(r"^## ([\w-]+)$", PAGE, flags=re.M)) == set(SCHEMAS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path"), [("router", "models/default/router.json"), ("ablation", "docs/ablation/ablation.json")]
)
def test_documents_of_the_repository(name, path):
    check(name, json.loads((ROOT / path).read_text(encoding="utf-8")))


MEASURED = {"seconds", "predict_microseconds_per_code", "exact_microseconds_per_code", "predict_microseconds"}
MEASURED |= {"exact_microseconds", "per_second", "seconds_left", "done", "made_by", "sha256"}
"""Fields that differ from run to run or from version to version."""


def alike(one, other):
    """The same, but for the last digits of numbers and what is measured."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(key in MEASURED or alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float):
        return one == pytest.approx(other, rel=1e-6, abs=1e-9)
    return one == other


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_of_the_page_are_what_the_commands_beside_them_print(name, mheight, folder):
    commands, document = EXAMPLES[name]
    check(name, document)
    if name == "progress":  # which comes when it comes
        return
    for line in commands:
        given, _, command = line.rpartition(" | ")
        words = shlex.split(command)
        if words[0] == "cat":
            out = (folder / words[1]).read_text(encoding="utf-8")
            continue
        if words[:2] == ["python", "benchmarks/ablation"]:
            words = ["mheight", "ablation", *words[2:]]
        assert words[0] == "mheight"
        code, out, err = mheight(*words[1:], stdin="".join(shlex.split(given)[1:]).encode())
        assert code == 0
        for progress in err.splitlines():  # on a busy machine
            check("progress", json.loads(progress))
    assert alike(document, json.loads(out))


# what commands print


def test_exact(printed, folder):
    write_json(folder / "rows.json", ROWS)
    check("exact", printed("exact", "rows.json"))
    check("exact", printed("exact", "rows.json", "--out", "new.npz", "-q"))
    write_json(folder / "labelled.json", ROWS, [HEIGHTS[0] * 2, HEIGHTS[1], 7.0, *HEIGHTS[3:5], np.inf])
    check("audit", printed("exact", "labelled.json"))
    check("audit", printed("exact", "labelled.json", "--check", code=1))
    check("audit", printed("exact", "labelled.json", "--out", "set", "-q"))
    check("audit", printed("exact", "set"))


@pytest.mark.slow
def test_exact_of_one_code(printed, folder):
    np.savez("P.npz", P=np.array(P))
    np.savez("real.npz", P=np.array(P) / 7.0)
    check("heights", printed("exact", "P.npz", "--matrix", "P", "-q"))
    check("heights", printed("exact", "P.npz", "--m", 2, "--method", "search", "-q"))
    for name, m in (("P.npz", 2), ("P.npz", 5), ("real.npz", 2)):
        check("heights", printed("exact", name, "--m", m, "--certificate", "proof.json", "--force", "-q"))
        check("certificate", json.loads((folder / "proof.json").read_text(encoding="utf-8")))
    np.savez("G.npz", G=np.hstack([np.eye(4), P])[:, ::-1])
    check("heights", printed("exact", "G.npz", "--m", "1-2", "--certificate", "both.json", "-q"))
    check("certificate", json.loads((folder / "both-2.json").read_text(encoding="utf-8")))
    check("verdict", printed("verify", "both-1.json", "G.npz"))
    check("verdict", printed("verify", "both-1.json", "P.npz", code=1))
    text = (folder / "proof.json").read_text(encoding="utf-8")
    check("verdict", printed("verify", "proof.json"))
    made = json.loads(text)
    made["bases"] = made["bases"][1:]
    verdict = printed("verify", "-", stdin=json.dumps(made).encode(), code=1)
    check("verdict", verdict)


def test_an_unfinished_search(printed, folder):
    np.savez("P.npz", P=np.random.default_rng(0).normal(size=(24, 24)))
    document = printed("exact", "P.npz", "--m", 9, "--time-limit", 0.3, "-q")
    assert document["heights"][0]["ended"] == "time limit"
    check("heights", document)


@pytest.mark.parametrize("flags", [[], ["--bounds"], ["--bounds", "--spread", "--interval", 0.9]])
def test_predict(flags, printed, folder, models):
    write_json(folder / "rows.json", ROWS)
    document = printed("predict", "rows.json", "--models", models, *flags)
    assert "inf" in document["heights"]
    check("predict", document)


@pytest.mark.parametrize("flags", [[], ["--m", 2, "--bounds", "--spread", "--interval", 0.9]])
def test_predict_of_one_matrix(flags, printed, folder, models):
    np.savez("P.npz", P=P)
    check("predict", printed("predict", "P.npz", "--matrix", "P", "--models", models, *flags))


@pytest.mark.slow
def test_explain(printed, folder, models):
    write_json(folder / "rows.json", [*ROWS, [20, 10, 2, np.random.default_rng(0).normal(size=(10, 10)).tolist()]])
    for row in (0, 2, len(ROWS)):
        check("explanation", printed("explain", "rows.json", "--row", row, "--models", models, "-q"))
    np.savez("long.npz", P=np.random.default_rng(0).normal(size=(20, 20)))
    check("explanation", printed("explain", "long.npz", "--m", 1, "--models", models, "-q"))


@pytest.mark.slow
@pytest.mark.parametrize("out", [["new.npz"], ["rows.pkl", "heights.pkl"], ["set"]])
def test_generate(out, printed):
    check("generate", printed("generate", *out, *SMALL, "-q"))


def test_ensemble_eval(printed, models):
    check("evaluation", printed("ensemble-eval", "--models", models, *SMALL, "-q"))
    judged = printed("ensemble-eval", "--models", models, *SMALL, "-q", "--criteria", "run2", code=1)
    assert judged["criteria"]
    check("evaluation", judged)
    # all heights are infinite: there is no error to measure
    one = ["--rows", 4, "--groups", "9,4,5", "--kind", "repeated", "-q"]
    document = printed("ensemble-eval", "--models", models, *one)
    assert document["macro_log2_mse"] == "nan"
    check("evaluation", document)


@pytest.mark.slow
def test_train_expert(printed, quick):
    document = printed("train-expert", "--tier", "medium", "--models", "mine", "--seeds", 1, "--chunks", 2, "-q")
    check("training", document)


def test_train_expert_long(printed, folder, quick_long):
    tiny_models(folder / "mine", seeds=1)
    few_labels(folder / "labels.npz", [(12, 6, 4)])
    long = ["--view", "long", "--models", "mine", "--labels", "labels.npz", "--seeds", 1, "-q"]
    check("long-training", printed("train-expert", "--tier", "low", *long))


@pytest.mark.slow
def test_train_expert_raw(printed):
    printed("generate", "codes.npz", "--rows", 12, "-q")
    tiny = [
        "--epochs",
        1,
        "--set",
        "width=16",
        "--set",
        "blocks=1",
        "--set",
        "weights=proposed",
        "--set",
        "curriculum=proposed",
    ]
    document = printed(
        "train-expert", "--tier", "all", "--view", "raw", "--data", "codes.npz", "--seeds", 2, "--jobs", 1, *tiny, "-q"
    )
    check("raw-training", document)


def test_train_router(printed, folder, monkeypatch):
    from moe_mheight.ensemble import router_training
    from moe_mheight.experts import model_card

    for module in (model_card, router_training):
        monkeypatch.setattr(module, "sizes", FEW.__getitem__)
    tiny_models(folder / "mine")
    check("router", printed("train-router", "--models", "mine", "--codes", 20, "-q"))


@pytest.mark.slow
def test_export_onnx(printed, models):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="an extra")
    check("onnx", printed("export-onnx", "experts", "--models", models, "-q"))


@pytest.mark.slow
def test_ablation(printed, folder):
    tiny = {"width": 16, "blocks": 1, "epochs": 1, "per_epoch": 90, "batch": 32}
    write_json(folder / "table.json", [{"name": "run 1, scaled", "settings": tiny, "originals": 5}])
    check("ablation-rows", printed("ablation", "--table", "table.json", "--list"))
    check("ablation-rows", printed("ablation", "--list"))
    printed("generate", "codes.npz", "--rows", 12, "-q")
    arguments = ["--table", "table.json", "--data", "codes.npz", "--seeds", 2, "--jobs", 1, "-q"]
    check("ablation", printed("ablation", *arguments))


def test_progress_on_standard_error(mheight, folder, monkeypatch):
    import time

    clock = iter(range(0, 10**9, 2))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    code, _, err = mheight("generate", "codes.npz", *SMALL, "--json")
    assert code == 0
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines
    for line in lines:
        check("progress", line)
    assert lines[-1]["done"] == lines[-1]["total"] == 16


def test_errors_are_a_line_of_text(mheight, folder):
    code, out, err = mheight("exact", "missing.json", "--json")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"mheight: [^\n]+\n", err)
