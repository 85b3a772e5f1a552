"""`fastent compare TOPK Q`: lists from arrays, columns and servers, with all that compare has."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import fastent as fe
from fastent.cli import main
from fastent.cli.cluster import Plan
from fastent.io.servers import ServerRows
from fastent.io.source import Buffer

ROWS, CLASSES, K = 60, 50, 5
FIXTURE = Path(__file__).parent / "fixtures" / "topk" / "llama-cpp-python-completion.json"
RNG = np.random.default_rng(4)
P = RNG.normal(0, 2, (ROWS, CLASSES))
A = P - np.logaddexp.reduce(P, axis=1)[:, None]
Q = (P + RNG.normal(0, 1.0, P.shape)).astype(np.float32)
IDS = np.argsort(-A, axis=1)[:, :K]
LOGPROBS = np.take_along_axis(A, IDS, 1)


def vllm(rows):
    """One prompt; the token that came next is listed whatever its rank."""
    positions = [None]
    for n in rows:
        entries = {
            str(i): {"logprob": float(a), "rank": r + 1, "decoded_token": f"t{i}"}
            for r, (i, a) in enumerate(zip(IDS[n], LOGPROBS[n], strict=True))
        }
        positions.append(entries)
    return {"choices": [{"prompt_logprobs": positions}]}


def sglang(rows):
    lists = [
        [[float(a), int(i), None] for i, a in zip(IDS[n], LOGPROBS[n], strict=True)] for n in rows
    ]
    return {"meta_info": {"input_token_logprobs": [], "input_top_logprobs": [None, *lists]}}


def openai(rows):
    content = []
    for n in rows:
        tops = [
            {"token": f"t{i}", "bytes": list(f"t{i}".encode()), "logprob": float(a)}
            for i, a in zip(IDS[n], LOGPROBS[n], strict=True)
        ]
        content.append(tops[0] | {"top_logprobs": tops})
    return {"choices": [{"logprobs": {"content": content}}]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("q.npy", Q)
    np.savez("t.npz", ids=IDS, logprobs=LOGPROBS)
    columns = {"ids": list(IDS), "logprobs": list(LOGPROBS), "lang": ["de", "en"] * (ROWS // 2)}
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table, "t.parquet", row_group_size=7)
    with pyarrow.OSFile("t.arrow", "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as file:
        file.write_table(table, max_chunksize=11)
    for name, made in (("vllm", vllm), ("sglang", sglang), ("openai", openai)):
        lines = [json.dumps(made(range(s, s + 10))) + "\n" for s in range(0, ROWS, 10)]
        Path(f"{name}.jsonl").write_text("".join(lines))
    Path("tokens.json").write_text(json.dumps([f"t{i}" for i in range(CLASSES)]))


def compare(*words):
    assert main(["compare", *words, "--json", "report.json", "--quiet"]) == 0
    return json.loads(Path("report.json").read_text())


def refused(capsys, *words):
    assert main(["compare", *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


FORMATS = [
    ["t.npz"], ["t.parquet"], ["t.arrow"], ["vllm.jsonl", "--format", "vllm"],
    ["sglang.jsonl", "--format", "sglang"],
    ["openai.jsonl", "--format", "openai", "--token-table", "tokens.json"],
]  # fmt: skip


@pytest.mark.parametrize("words", FORMATS, ids=str)
def test_every_format_gives_the_values_of_the_function(words):
    document = compare(words[0], "q.npy", "--kind", "logits", *words[1:])
    rows = fe.topk_divergence(IDS, LOGPROBS, Q)
    assert list(document["metrics"]) == list(rows._fields)
    for name, values in zip(rows._fields, rows, strict=True):
        entry = document["metrics"][name]
        assert np.isclose(entry["value"], values.mean(), rtol=1e-14)
        assert entry["quantiles"]["max"] == values.max() and entry["count"] == ROWS
    assert document["settings"]["task"] == "topk"


def test_no_number_goes_without_what_is_open():
    document = compare("t.npz", "q.npy", "--kind", "logits", "--metrics", "bucket,ce_high")
    assert list(document["metrics"]) == ["tail_p", "bucket", "low", "high", "ce_low", "ce_high"]


@pytest.mark.slow
def test_groups_rows_and_the_worst(tmp_path):
    words = ["--kind", "logits", "--groups", "lang", "--rows", "rows.parquet", "--worst", "2"]
    document = compare("t.parquet", "q.npy", *words, "--html", "page.html")
    low = fe.topk_divergence(IDS, LOGPROBS, Q).low
    assert np.isclose(document["groups"]["en"]["low"]["value"], low[1::2].mean())
    assert [entry["row"] for entry in document["worst"]] == np.argsort(-low)[:2].tolist()
    rows = pyarrow.parquet.read_table("rows.parquet")
    assert rows["low"].to_numpy().tolist() == low.tolist()


def test_options_reach_the_function():
    wanted = fe.topk_divergence(IDS, LOGPROBS, Q, cap=None, temperature=2.0).high.mean()
    words = ["--kind", "logits", "--cap", "none", "--temperature", "2"]
    assert np.isclose(compare("t.npz", "q.npy", *words)["metrics"]["high"]["value"], wanted)
    longer = np.argsort(-A, axis=1)[:, [0, 1, 2, 30]]
    np.savez("r.npz", ids=longer, logprobs=np.take_along_axis(A, longer, 1))
    wanted = fe.topk_divergence(longer, np.take_along_axis(A, longer, 1), Q, ranks=3).high.mean()
    found = compare("r.npz", "q.npy", "--kind", "logits", "--ranks", "3")
    assert np.isclose(found["metrics"]["high"]["value"], wanted)
    ranks = np.tile([1, 2, 3, 31], (ROWS, 1))
    np.savez("r.npz", ids=longer, logprobs=np.take_along_axis(A, longer, 1), ranks=ranks)
    found = compare("r.npz", "q.npy", "--kind", "logits")
    assert np.isclose(found["metrics"]["high"]["value"], wanted)


def test_two_lists():
    tops = np.argsort(-Q, axis=1)[:, :K]
    log_q = Q - np.logaddexp.reduce(Q.astype(float), axis=1)[:, None]
    other = np.take_along_axis(log_q, tops, 1)
    np.savez("u.npz", ids=tops, logprobs=other)
    document = compare("t.npz", "u.npz", "--vocabulary", str(CLASSES))
    rows = fe.topk_divergence(IDS, LOGPROBS, (tops, other), classes=CLASSES)
    assert np.isclose(document["metrics"]["low"]["value"], rows.low.mean(), rtol=1e-14)
    assert document["metrics"]["high"]["value"] == "inf"


def test_rows_with_nan():
    q = Q.copy()
    q[3, 7] = np.nan
    np.save("bad.npy", q)
    words = ["bad.npy", "--kind", "logits"]
    assert main(["compare", "t.npz", *words, "--quiet"]) == 2
    document = compare("t.npz", *words, "--nan-policy", "omit")
    rows = fe.topk_divergence(np.delete(IDS, 3, 0), np.delete(LOGPROBS, 3, 0), np.delete(Q, 3, 0))
    assert np.isclose(document["metrics"]["low"]["value"], rows.low.mean(), rtol=1e-14)
    assert document["nan_rows"] == 1
    spread = compare("t.npz", *words, "--nan-policy", "propagate")
    assert spread["metrics"]["low"]["value"] == "nan"


def test_files_in_step_are_one_run_and_can_be_sent():
    Path("p").mkdir()
    Path("s").mkdir()
    for number, part in enumerate(np.array_split(np.arange(ROWS), 4)):
        np.savez(f"p/{number}.npz", ids=IDS[part], logprobs=LOGPROBS[part])
        np.save(f"s/{number}.npy", Q[part])
    whole = compare("t.npz", "q.npy", "--kind", "logits")
    parts = compare("p", "s", "--kind", "logits", "--checkpoint", "check", "--num-threads", "2")
    assert parts["metrics"] == whole["metrics"]
    Path("s/1.npy").write_bytes(b"")
    left = compare("p", "s", "--kind", "logits", "--on-error", "skip")
    assert left["rows"] == ROWS - 15 and len(left["left_out"]) == 1
    source = ServerRows("vllm.jsonl", "vllm", None)
    again = pickle.loads(pickle.dumps(source))
    first = source.read(5, 25, Buffer()).copy()
    assert (first == again.read(5, 25, Buffer())).all() and (first["ids"] == IDS[5:25]).all()
    assert (source.read(0, 3, Buffer())["ids"] == IDS[:3]).all()
    assert Plan  # what a worker is sent


def test_a_completion_as_llama_cpp_writes_it():
    response = json.loads(FIXTURE.read_text())
    tops = response["choices"][0]["logprobs"]["top_logprobs"][1:]
    texts = sorted({text for position in tops for text in position})
    Path("texts.txt").write_text("\n".join([*texts, *(f"<{n}>" for n in range(480 - len(texts)))]))
    np.save("flat.npy", np.zeros((len(tops), 480), np.float32))
    document = compare(
        str(FIXTURE), "flat.npy", "--kind", "logits", "--format", "openai",
        "--token-table", "texts.txt",
    )  # fmt: skip
    mass = [sum(np.exp(a) for a in position.values()) for position in tops]
    assert document["rows"] == len(tops) == 12
    assert np.isclose(document["metrics"]["tail_p"]["value"], 1 - np.mean(mass))
    assert document["metrics"]["low"]["value"] < document["metrics"]["high"]["value"]


def test_appended_tokens_and_infinities():
    entry = {"logprob": -1.0, "rank": 1}
    positions = [None, {"3": entry, "9": {"logprob": -4.0, "rank": 17}}]
    Path("one.jsonl").write_text(json.dumps(positions) + "\n")
    rows = ServerRows("one.jsonl", "vllm", None).read(0, 1, Buffer())
    assert rows["within"].tolist() == [[1, 0]]
    token = {"token": "t1", "logprob": -9999.0}
    item = {"token": "t2", "logprob": -0.5, "top_logprobs": [token]}
    Path("chat.jsonl").write_text(json.dumps({"choices": [{"logprobs": {"content": [item]}}]}))
    rows = ServerRows("chat.jsonl", "openai", "tokens.json").read(0, 1, Buffer())
    assert rows["ids"].tolist() == [[1, 2]] and rows["within"].tolist() == [[1, 0]]
    assert rows["logprobs"].tolist() == [[-np.inf, -0.5]]


def test_texts_that_are_ids_and_lines_of_batches():
    top = [{"token": "token_id:7", "logprob": -0.5}, {"token": "token_id:3", "logprob": -2.0}]
    body = {"choices": [{"logprobs": {"content": [top[0] | {"top_logprobs": top}]}}]}
    Path("batch.jsonl").write_text(json.dumps({"custom_id": "a", "response": {"body": body}}))
    rows = ServerRows("batch.jsonl", "openai", None).read(0, 1, Buffer())
    assert rows["ids"].tolist() == [[7, 3]] and rows["within"].tolist() == [[1, 1]]


def test_plain_lines_with_two_lists():
    lines = [
        json.dumps({"ids": i.tolist(), "logprobs": a.tolist()})
        for i, a in zip(IDS, LOGPROBS, strict=True)
    ]
    Path("plain.jsonl").write_text("\n".join(lines))
    whole = compare("t.npz", "q.npy", "--kind", "logits")
    assert compare("plain.jsonl", "q.npy", "--kind", "logits")["metrics"] == whole["metrics"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["openai.jsonl", "q.npy", "--kind", "logits", "--format", "openai"], "--token-table says"),
        (["q.npy", "t.npz", "--kind", "logits"], "lists of the largest classes as Q"),
        (["t.npz", "q.npy"], "required: --kind"),
        (["t.npz", "q.npy", "--kind", "logits", "--labels", "q.npy"], "--labels: does not apply"),
        (["q.npy", "q.npy", "--kind", "logits", "--cap", "none"], "--cap applies to lists"),
        (["t.npz", "q.npy", "--kind", "logits", "--cap", "2"], "expected smallest, none or"),
        (["t.npz", "t.npz", "--kind", "logits"], "--kind logits: lists hold logprobs"),
        (
            ["t.npz", "q.npy", "--kind", "logits", "--metrics", "kl_divergence"],
            "it has head, tail_p",
        ),
        (
            ["sglang.jsonl", "q.npy", "--kind", "logits", "--format", "vllm"],
            "not as vllm writes it",
        ),
        (["q.npy", "q.npy", "--kind", "logits", "--format", "vllm"], "--format vllm: expected"),
        (["t.npz", "q.npy", "--kind", "logprobs", "--temperature", "2"], "temperature: applies to"),
        (["t.npz", "q.npy", "--kind", "logprobs"], "q.npy: expected exponentials that sum to 1"),
    ],
)
def test_refused(words, message, capsys):
    assert message in refused(capsys, *words)


def test_errors_name_file_and_row(capsys):
    ids = IDS.copy()
    ids[41, 1] = ids[41, 0]
    np.savez("t.npz", ids=ids, logprobs=LOGPROBS)
    told = refused(capsys, "t.npz", "q.npy", "--kind", "logits")
    assert told.startswith("fastent: t.npz: expected different classes") and "row 41" in told
