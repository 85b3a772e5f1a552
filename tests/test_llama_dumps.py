"""Dumps of llama.cpp: read as they are written, decoded exactly, refused where they are cut."""

import json
import os
import re
import struct
from pathlib import Path

import dumps
import numpy as np
import oracle
import pytest
from mpmath import mpf

import fastent as fe
from fastent import llama
from fastent.backends.cython.engine import prepare
from fastent.cli import main

EXPECTED = json.loads((dumps.FOLDER / "expected.json").read_text())


def report(*words):
    assert main([*words, "--json", "report.json", "--quiet"]) == 0
    return json.loads(Path("report.json").read_text())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", dumps.MODELS)
def test_written_bit_for_bit(model):
    original = Path(dumps.path(model)).read_bytes()
    dump = llama.open(dumps.path(model))
    numbers = dumps.logits(model)
    llama.write("again.bin", dump.tokens, [numbers[:50], numbers[50:]], dump.n_ctx)
    assert Path("again.bin").read_bytes() == original


def test_what_a_dump_says():
    dump = llama.open(dumps.path("A"))
    assert (dump.n_ctx, dump.n_vocab, dump.n_chunk, len(dump)) == (128, 480, 3, 189)
    rows = [(c, 64 + r + 1) for c in range(3) for r in range(63)]
    assert list(zip(dump.chunk, dump.position, strict=True)) == rows
    assert dump.labels.tolist() == [dump.tokens[c][k] for c, k in rows]
    assert np.array_equal(dump.decode(0, 189), dumps.decoded(dumps.path("A")))
    assert np.array_equal(dump.decode(70, 80), dump.decode(0, 189)[70:80])
    with pytest.raises(ValueError, match="rows: expected 0 <= start <= stop <= 189"):
        dump.decode(5, 190)


@pytest.mark.parametrize(("n_ctx", "n_vocab"), [(8, 7), (9, 8), (2, 5), (3, 1), (5, 2049), (64, 2)])
def test_odd_sizes(n_ctx, n_vocab):
    numbers = dumps.write("odd.bin", n_ctx, n_vocab, 4)
    dump = llama.open("odd.bin")
    assert len(dump) == 4 * (n_ctx - 1 - n_ctx // 2) == len(numbers)
    found = dump.decode(0, len(dump))
    assert np.array_equal(found, dumps.decoded("odd.bin") if len(dump) else found)
    exact = numbers - np.log(np.exp(numbers.astype(np.float64)).sum(1, keepdims=True))
    above = exact > exact.max(1, keepdims=True) - 15.9 if len(dump) else exact > 0
    assert np.abs(found - exact)[above].max(initial=0) < 1.3e-4


def test_bad_writes():
    rows = np.zeros((3, 4), np.float32)
    for tokens, blocks, n_ctx, why in (
        (np.arange(7), [rows], 8, "multiple of n_ctx"),
        (np.arange(8), [rows[:2]], 8, "expected 3 rows for these tokens, got 2"),
        (np.arange(8), [rows, rows[:, :3]], 8, "expected 4 classes throughout, got 3"),
        (np.arange(8), [rows.astype(float)], 8, "float32"),
        (np.arange(0), [], 8, "at least one chunk"),
    ):
        with pytest.raises(ValueError, match=why):
            llama.write("bad.bin", tokens, blocks, n_ctx)
    assert os.listdir(".") == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"_logits_" + struct.pack("<i", 128), "12 bytes and no rows: the text was too short"),
        (b"_logits_" + struct.pack("<ii", 128, 5), "16 bytes, expected a header of 20"),
        (b"_logits_" + struct.pack("<iii", -1, 5, 2), "n_ctx -1, n_vocab 5, n_chunk 2"),
        (b"_logits_" + struct.pack("<iii", 8, 5, 2) + bytes(64), "84 bytes, expected 204"),
    ],
)
def test_files_without_rows(data, why, capsys):
    Path("x.bin").write_bytes(data)
    with pytest.raises(ValueError, match=why):
        llama.open("x.bin")
    assert main(["score", "x.bin"]) == 2
    told = capsys.readouterr().err
    assert why in told and "x.bin" in told and told.count("\n") == 1


# --- numbers --------------------------------------------------------------------------------------

ROWS = [0, 17, 62, 63, 130, 188]


def exact_rows(task, columns, **operands):
    found = []
    for k in range(len(ROWS)):
        row = {name: values[k] for name, values in operands.items()}
        found.append(oracle.row(task, kind="logits", columns=columns, tolerance=1.0, **row))
    return found


@pytest.fixture(scope="module")
def exact():
    p, q = (dumps.decoded(dumps.path(model))[ROWS] for model in "AB")
    labels = llama.open(dumps.path("A")).labels[ROWS].tolist()
    pair = ("kl_divergence", "reverse_kl", "js_divergence", "total_variation", "entropy_p")
    one = ("cross_entropy", "entropy", "confidence", "brier")
    return {
        "divergence": exact_rows("divergence", pair, true=p, pred=q),
        "sparse": exact_rows("sparse", one, label=labels, pred=p),
    }


@pytest.mark.parametrize("task", ["divergence", "sparse"])
def test_decoded_rows_are_exact(task, engine, exact):
    a, b = (llama.open(dumps.path(model)) for model in "AB")
    columns = tuple(exact[task][0])
    first, second = (a.rows, b.rows) if task == "divergence" else (a.labels, a.rows)
    call = prepare(task, columns, first, second, kind="logprobs", backend=engine)
    values = call.values(0, 189)[:, ROWS]
    for column, found in zip(columns, values, strict=True):
        for value, row in zip(found, exact[task], strict=True):
            assert abs(mpf(float(value)) - row[column]) <= 1e-6 * abs(row[column])


def test_long_rows_have_the_bits_of_short_blocks(engine):
    """More classes than a block of the loader: what is decoded block by block is the same."""
    numbers = dumps.write("long.bin", 6, 5001, 2)
    dump = llama.open("long.bin")
    rows = dump.decode(0, len(dump))
    other = numbers[::-1]
    for function in (fe.kl_divergence, fe.js_divergence):
        found = function(dump.rows, other, kind=("logprobs", "logits"), backend=engine)
        expected = function(rows, other, kind=("logits", "logits"), backend=engine)
        assert np.allclose(found, expected, rtol=1e-6)
    wide = fe.kl_divergence(dump.rows, other.astype(float), kind=("logprobs", "logits"))
    expected = fe.kl_divergence(rows.astype(float), other.astype(float), kind="logits")
    assert np.allclose(wide, expected, rtol=1e-12)


def test_rows_are_operands_of_log_probabilities_alone():
    rows = llama.open(dumps.path("A")).rows
    with pytest.raises(ValueError, match="expected 'logprobs' for p, whose rows are codes"):
        fe.entropy(rows, kind="logits")
    with pytest.raises(ValueError, match=r"shape \(189,\)"):
        fe.sparse_cross_entropy(np.zeros(188, int), rows, kind="logprobs")
    with pytest.raises(TypeError, match="labels"):
        fe.sparse_cross_entropy(rows, rows, kind="logprobs")
    with pytest.raises(ValueError, match="axis"):
        fe.entropy(rows, kind="logprobs", axis=0)
    assert fe.entropy(rows[3:4], kind="logprobs")[0] == fe.entropy(rows, kind="logprobs")[3]


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("q", "p"), ["BA", "CA", "AB"])
def test_compare_two_dumps(p, q):
    found = report("compare", dumps.path(p), dumps.path(q))
    want = EXPECTED[f"even {q} against {p}"]
    names = {
        "kl_divergence": want["both_decoded_renormalised"]["Mean KLD"],
        "cross_entropy_difference": want["both_decoded_renormalised"]["ln ratio"],
        "perplexity_q": want["both_decoded_renormalised"]["Mean PPL(Q)"],
        "perplexity_p": want["both_decoded_renormalised"]["Mean PPL(base)"],
        "perplexity_ratio": want["both_decoded_renormalised"]["PPL ratio"],
        "delta_p": [x / 100 for x in want["both_decoded_renormalised"]["Mean dp"]],
        "delta_p_rms": [x / 100 for x in want["both_decoded_renormalised"]["RMS dp"]],
        "top1_agreement": [want["both_decoded_renormalised"]["Same top"][0] / 100],
        "loss_correlation": [want["both_decoded_renormalised"]["Cor"][0] / 100],
        "reverse_kl": [want["both_decoded_more"]["reverse_kl"]],
        "js_divergence": [want["both_decoded_more"]["js"]],
        "total_variation": [want["both_decoded_more"]["tv"]],
        "top5_overlap": [want["both_decoded_more"]["top5_overlap"]],
        "top10_overlap": [want["both_decoded_more"]["top10_overlap"]],
        "top1_in_top5": [want["both_decoded_more"]["p_top1_in_q_top5"]],
    }
    n = found["metrics"]["kl_divergence"]["count"]
    for name, (value, *error) in names.items():
        assert found["metrics"][name]["value"] == pytest.approx(value, rel=3e-6, abs=1e-7), name
        if error:
            assert found["metrics"][name]["stderr"] == pytest.approx(error[0], rel=1e-4), name
    assert n == 189
    for side, key in (("p", "base"), ("q", "tested")):
        clip = {k: want["clip"][key][k] for k in ("rows_clipped", "targets_at_floor")}
        assert found["clipping"][side] == clip
    spread = found["metrics"]["kl_divergence"]["quantiles"]
    for name, key in (("p99", "99.0% KLD"), ("median", "Median KLD"), ("p1", "1.0% KLD"),
                      ("max", "Max KLD"), ("min", "Min KLD"), ("p0.1", "0.1% KLD")):  # fmt: skip
        expected = want["both_decoded_renormalised"][key][0]
        assert spread[name] == pytest.approx(expected, rel=1e-4)
    assert found["clusters"] == {"count": 3, "few": True}
    clustered = found["metrics"]["kl_divergence"]["cluster_stderr"]
    assert clustered == pytest.approx(want["cluster_se_by_chunk"]["kld"], rel=1e-4)


def test_without_labels_at_the_floor(capsys):
    for q, both in (("B", 0.126885), ("C", -0.001475)):
        found = report("compare", dumps.path("A"), dumps.path(q))["clipping"]
        assert main(["compare", dumps.path("A"), dumps.path(q)]) == 0
        told = capsys.readouterr().out
        for side in "pq":
            counts = found[side]["rows_clipped"], found[side]["targets_at_floor"]
            assert "{}: {:,} rows clipped, {:,} labels".format(side.upper(), *counts) in told
        above = found["without_targets_at_floor"]["cross_entropy_difference"]
        assert above["value"] == pytest.approx(both, abs=6e-7) and above["count"] == 188


def test_a_perplexity_of_labels_at_the_floor_is_a_bound(capsys):
    assert main(["score", dumps.path("A")]) == 0
    told = capsys.readouterr().out
    assert re.search(r"perplexity +≥ 5[12]", told)
    assert "173 rows clipped, 1 labels at the floor" in told
    found = report("score", dumps.path("A"))
    assert found["clipping"]["targets_at_floor"] == 1
    assert found["metrics"]["perplexity"]["bound"] == "lower"
    assert found["clipping"]["without_targets_at_floor"]["cross_entropy"]["count"] == 188
    assert found["metrics"]["cross_entropy"]["cluster_stderr"] is not None


def test_against_logits_of_any_format():
    np.save("q.npy", dumps.logits("B"))
    found = report("compare", dumps.path("A"), "q.npy", "--kind", "logprobs,logits")
    again = report("compare", dumps.path("A"), "q.npy", "--kind", "logits")
    assert found["metrics"] == again["metrics"]
    assert found["metrics"]["kl_divergence"]["value"] == pytest.approx(0.14286, rel=1e-3)
    other = report("compare", "q.npy", dumps.path("A"), "--kind", "logits")
    assert other["metrics"]["cross_entropy_difference"]["value"] == pytest.approx(-0.1383, rel=0.1)


def test_rows_say_where_they_are():
    from pyarrow import parquet

    report("score", dumps.path("A"), "--rows", "rows.parquet", "--metrics", "cross_entropy")
    rows = parquet.read_table("rows.parquet").to_pydict()
    dump = llama.open(dumps.path("A"))
    for name, column in (
        ("token", dump.labels),
        ("chunk", dump.chunk),
        ("position", dump.position),
    ):
        assert rows[name] == column.tolist()
    report("compare", dumps.path("A"), dumps.path("B"), "--rows", "rows.parquet")
    rows = parquet.read_table("rows.parquet").to_pydict()
    assert rows["token"] == dump.labels.tolist()
    values = fe.kl_divergence(dump.rows, llama.open(dumps.path("B")).rows, kind="logprobs")
    assert rows["kl_divergence"] == values.tolist()


def test_chunks_of_several_files_are_different_clusters():
    for name in "ab":
        dumps.write(f"{name}.dump", 8, 16, 3, seed=ord(name))
    Path("both").mkdir()
    os.rename("a.dump", "both/1.bin")
    os.rename("b.dump", "both/2.whatever")
    found = report("compare", "both", "both")
    assert found["clusters"]["count"] == 6 and found["rows"] == 18


def changed(source, offset, value):
    data = bytearray(Path(source).read_bytes())
    data[offset : offset + 4] = struct.pack("<i", value)
    Path("changed.bin").write_bytes(bytes(data))
    return "changed.bin"


def test_refusals(capsys):
    a = dumps.path("A")
    token = 20 + 4 * (128 + 70)  # of chunk 1
    dumps.write("other.bin", 128, 601, 3)
    short = Path(a).read_bytes()[:-10]
    Path("cut.bin").write_bytes(short)
    np.save("q.npy", dumps.logits("B")[:, :479])
    for words, why in (
        ([a, changed(a, token, 1)], "token 1 in chunk 1 at position 70, expected "),
        ([a, "other.bin"], "n_vocab 601, expected 480"),
        ([a, "cut.bin"], "184498 bytes, expected 184508"),
        ([a, "cut.bin"], "2 of 3 chunks are whole (--on-error skip takes those)"),
        ([a, "q.npy", "--kind", "logits"], "479 classes, expected 480"),
        ([a, "q.npy"], "--kind"),
        ([a, a, "--kind", "probs"], "expected logprobs"),
        ([a, a, "--temperature", "2"], "temperature: applies to logits only"),
    ):
        assert main(["compare", *words]) == 2, words
        told = capsys.readouterr().err
        assert why in told and told.count("\n") == 1, told


def test_whole_chunks_of_a_file_that_was_cut(capsys):
    a = dumps.path("A")
    data = Path(a).read_bytes()
    row = 2 * (480 + 4)
    for lost, rows in ((10, 126), (63 * row, 126), (63 * row + 1, 63), (126 * row, 63)):
        Path("cut.bin").write_bytes(data[:-lost])
        with pytest.raises(ValueError, match="chunks are whole"):
            llama.open("cut.bin")
        assert len(llama.open("cut.bin", whole_chunks=True)) == rows
        whole = fe.kl_divergence(
            llama.open(a).rows[:rows], llama.open(dumps.path("B")).rows[:rows],
            kind="logprobs", reduction="mean",
        )  # fmt: skip
        for p, q in (("cut.bin", dumps.path("B")), (a, "cut.bin")):
            found = report("compare", p, q, "--on-error", "skip")
            assert found["rows"] == rows
            assert "chunks are whole" in found["left_out"][0]["error"]
            if p == "cut.bin":
                assert found["metrics"]["kl_divergence"]["value"] == whole
        assert report("score", "cut.bin", "--on-error", "skip")["rows"] == rows
    Path("cut.bin").write_bytes(data[: -189 * row])
    assert main(["score", "cut.bin", "--on-error", "skip"]) == 2
    assert "0 of 3 chunks are whole" in capsys.readouterr().err


def test_a_writer_that_clips_elsewhere():
    dump = llama.open(dumps.path("A"))
    numbers = dumps.logits("A") * np.float32(3)
    for clip in (16, 24):
        llama.write("c.bin", dump.tokens, [numbers], 128, clip=clip)
        found = report("score", "c.bin")["clipping"]
        span = numbers.max(1) - numbers.min(1)
        assert found["rows_clipped"] == np.count_nonzero(span > clip)


# --- the program's own table ----------------------------------------------------------------------


@pytest.mark.parametrize(("q", "p"), ["AA", "AB", "BA", "CA"])
def test_the_table_of_the_program(p, q, capsys):
    words = [dumps.path(p), str(dumps.FOLDER / f"even-{q}-logits.npy"), "--llama"]
    assert main(["compare", *words, "--json", "table.json"]) == 0
    printed = (dumps.FOLDER / f"even-{q}-against-{p}.stdout").read_text().splitlines()
    assert capsys.readouterr().out.splitlines() == printed[1:-1]  # the first line is a time
    document = json.loads(Path("table.json").read_text())
    assert document["settings"] == {"kind": ["logprobs", "logits"], "llama": True}
    found = document["llama"]
    for name, numbers in EXPECTED[f"even {q} against {p}"]["llama"].items():
        assert [float(x) for x in found[name]] == pytest.approx(numbers, rel=1e-6, abs=1e-11), name


def test_the_table_names_the_file_and_row_of_a_token_beyond_the_vocabulary(capsys):
    data = bytearray(Path(dumps.path("A")).read_bytes())
    n_ctx, n_vocab = struct.unpack_from("<2i", data, 8)
    struct.pack_into("<i", data, 20 + 4 * (n_ctx // 2 + 3), n_vocab + 5)
    Path("bad.bin").write_bytes(data)
    assert main(["compare", "bad.bin", str(dumps.FOLDER / "even-B-logits.npy"), "--llama"]) == 2
    said = f"bad.bin:token: row 2 is {n_vocab + 5}, expected 0 to {n_vocab - 1}"
    assert said in capsys.readouterr().err


def test_the_table_takes_logits_alone(capsys):
    np.save("q.npy", dumps.logits("B").astype(np.float64))
    for words, why in (
        ([dumps.path("A"), "q.npy"], "float64, expected float32 logits"),
        ([dumps.path("A"), dumps.path("B")], "even-A.bin is a dump of log-probabilities"),
        (["q.npy", "q.npy"], "no dump"),
        ([dumps.path("A"), "q.npy", "--worst", "3"], "--worst"),
    ):
        kind = [] if dumps.path("B") in words else ["--kind", "logits"]
        assert main(["compare", *words, "--llama", *kind]) == 2
        assert why in capsys.readouterr().err
