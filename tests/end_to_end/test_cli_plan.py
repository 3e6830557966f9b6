"""plan, worker and the placement options of chat, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner import Engine, LoadOptions
from franken_gguf.runner.cli import main
from support.models import demo_gguf, smollm2
from support.shapes import MIXTRAL_4X7B, sparse_model
from support.workers import COMMAND, rpc_environment, wait_until_listening, worker


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sparse_model(tmp_path_factory.mktemp("plan") / "4x7b.gguf", **MIXTRAL_4X7B)


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words)])


def test_the_table_shows_what_goes_where_on_another_machine(model: Path) -> None:
    result = run("plan", model, "--vram", "6GiB", "--ram", "16GiB", "-c", "8192")
    assert result.exit_code == 0
    model_line, *shown, _, command = (line.rstrip() for line in result.stdout.splitlines())
    assert model_line == f"model     {model}"
    assert shown == [
        "context   8,192 of 32,768 tokens",
        "KV cache  keys f16, values f16",
        "layers    33 of 33 layers on GPU, the experts of 23 in RAM, and gate and down of",
        "          one more",
        "loading   mapped",
        "",
        "bytes                    GPU          RAM",
        "─────────────────────────────────────────",
        "attention          720.0 MiB            -",
        "experts              3.1 GiB      8.7 GiB",
        "router               2.0 MiB            -",
        "norms                1.0 MiB            -",
        "embeddings         108.0 MiB    108.0 MiB",
        "KV cache             1.0 GiB            -",
        "compute buffers    326.0 MiB    184.2 MiB",
        "",
        "total                5.2 GiB      9.0 GiB",
        "headroom           768.0 MiB    256.0 MiB",
        "available            6.0 GiB     16.0 GiB",
    ]
    assert command == (
        f"llama-cli -m {model} -c 8192 -ngl 33 -ncmoe 23 "
        r"-ot 'blk\.23\.ffn_(gate|down)_(ch|)exps=CPU'"
    )


def test_sizes_with_a_comma_are_two_gpus(model: Path) -> None:
    result = run("plan", model, "--vram", "8GiB,4GiB", "--ram", "16GiB")
    assert (
        "layers    33 of 33 layers, 25 on GPU0, 8 on GPU1, the experts of 9 in RAM,"
        in result.stdout
    )
    assert "bytes                   GPU0         GPU1          RAM" in result.stdout
    assert " -ts 25,8 -c 4096 -ngl 33 -ncmoe 9 " in result.stdout
    document = json.loads(
        run("plan", model, "--vram", "8GiB,4GiB", "--ram", "16GiB", "-ts", "1,1", "--json").stdout
    )
    assert document["devices"] == ["GPU0", "GPU1"]
    assert document["tensor_split"] == [17, 16]


def test_json_is_the_plan_and_nothing_else(model: Path) -> None:
    result = run("plan", model, "--vram", "8GiB", "--ram", "16GiB", "--json")
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert (document["n_gpu_layers"], document["n_cpu_moe"]) == (33, 17)
    assert document["partly"] == ["gate", "down"]
    assert document["fits"] and document["short"] == {}
    assert document["used"].keys() == {"GPU", "CPU"}
    for device, used in document["used"].items():
        spare = document["headroom"][device]
        assert sum(used.values()) + spare <= document["available"][device]


def test_a_model_in_several_files_is_planned_and_loaded_as_the_whole(tmp_path: Path) -> None:
    words = ["-q", "Q4_1", "--split-max-size", "50MB", "-o", tmp_path / "parts.gguf"]
    made = run("convert", smollm2(), *words)
    assert made.exit_code == 0, made.output
    first, *rest = sorted(tmp_path.glob("parts-*.gguf"))
    assert rest
    machine = ("--vram", "100MiB", "--ram", "1GiB", "--json")
    one, many = (json.loads(run("plan", path, *machine).stdout) for path in (smollm2(), first))
    assert many | {"model": None} == one | {"model": None}
    with Engine(read_header(first), LoadOptions(n_ctx=256, n_threads=1)) as engine:
        everywhere = sum(used["attention"] for used in one["used"].values())
        assert engine.plan.used["CPU"]["attention"] == everywhere
    second = run("plan", rest[0], *machine)
    assert f"give the first part, ...-00001-of-{len(rest) + 1:05}.gguf" in second.stderr
    rest[0].unlink()
    assert run("plan", first, *machine).stderr == f"Error: {rest[0]}: no such file\n"


def test_a_model_that_does_not_fit_comes_with_what_to_change(model: Path) -> None:
    result = run("plan", model, "--vram", "6GiB", "--ram", "8GiB")
    assert result.exit_code == 0
    assert "RAM lacks " in result.stdout
    assert "- a smaller quant fits: Q3_K, 3.44 bits per weight" in result.stdout
    assert "llama-cli" not in result.stdout


def test_a_files_name_does_not_steer_the_terminal(model: Path, tmp_path: Path) -> None:
    evil = tmp_path / "4x7b\x1b[2J.gguf"
    evil.symlink_to(model)
    result = run("plan", evil, "--vram", "8GiB", "--ram", "16GiB", "-ot", "\udcff=CPU")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "-ot \\udcff=CPU: matches no tensor" in result.stdout


@pytest.mark.parametrize("columns", ["60", "120"])
def test_the_table_fits_the_terminal(model: Path, columns: str) -> None:
    result = CliRunner(env={"COLUMNS": columns}).invoke(
        main, ["plan", str(model), "--vram", "8GiB", "--ram", "16GiB"]
    )
    table = result.stdout.split("\n\n")[1]
    assert all(len(line.rstrip()) <= int(columns) for line in table.splitlines())


def test_a_plan_for_another_machine_does_not_wait_for_llama_cpp(model: Path) -> None:
    words = ["plan", str(model), "--vram", "8GiB", "--ram", "16GiB", "--json"]
    code = (
        f"import sys; from franken_gguf.runner.cli import main; main({words}, "
        "standalone_mode=False); assert 'llama_cpp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("verb", ["plan", "chat"])
@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["-ot", "ffn_(=CPU"], 1, "Error: -ot ffn_(: not a valid regular expression"),
        (["-ot", "ffn=CUDA7"], 1, "Error: -ot: no device 'CUDA7' here; there are CPU"),
        (["-ot", "ffn"], 2, "'ffn' is not REGEX=DEVICE, as in 'ffn_.*_exps=CPU'"),
        (["-ctk", "q9_9"], 1, "Error: no KV cache type 'q9_9'; there are f32, f16, bf16, q8_0"),
        (["-c", "9999999999"], 1, "Error: -c 9999999999: give a number of tokens, or 0"),
        (["--rope-scaling", "ntk"], 1, "Error: --rope-scaling ntk: give one of none, linear"),
        (["--rope-scale", "inf"], 1, "Error: --rope-scale inf: give a number above 0"),
        (["--yarn-orig-ctx", "0"], 2, "0 is not in the range"),
        (["-c", "-1"], 2, "-1 is not in the range"),
        (["-fa", "maybe"], 2, "'maybe' is not on, off or auto"),
        (["-fa", "off", "-ctv", "q4_0"], 1, "Error: values in q4_0 need flash attention"),
        (["-ngl", "-5"], 1, "Error: -ngl -5: give a number of layers, -1 for all, or auto"),
        (["-ngl", "many"], 2, "'many' is not a number of layers (-1 for all) or auto"),
        (["--n-cpu-moe", "-3"], 1, "Error: --n-cpu-moe -3: give a number of layers, or auto"),
        (["-ts", "1,many"], 2, "'1,many' is not a list of proportions, as in 3,1"),
        (["-ts", "1"], 1, "Error: -ts 1: more shares than devices; there are none"),
        (["--vram", "1G,lots"], 2, "'lots' is not a size; write 512MiB, 2G or a number of bytes"),
        (["--vram", "8"], 2, "'8' is a number of bytes, less than 64 MiB; write 8GiB"),
        (["--vram", "8GiB,1.5"], 2, "'1.5' is a number of bytes, less than 64 MiB; write 1.5GiB"),
        (["--vram", "63MiB"], 2, "'63MiB' is less than 64 MiB"),
        (["--vram", "lots"], 2, "'lots' is not a size; write 512MiB, 2G or a number of bytes"),
        (["--rpc", "127.0.0.1:99999"], 1, "Error: --rpc 127.0.0.1:99999: give HOST:PORT"),
    ],
)
def test_a_wrong_option_value_gives_one_line(
    model: Path, verb: str, words: list[str], status: int, line: str
) -> None:
    prompt = ["-p", "Hello"] if verb == "chat" else []
    done = subprocess.run(
        [COMMAND, verb, str(model), *prompt, *words],
        env=rpc_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert line in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_worker_listens_beyond_loopback_only_with_public() -> None:
    refused = run("worker", "--host", "0.0.0.0")
    assert refused.exit_code == 2
    assert (
        "0.0.0.0 is not a loopback address; --public allows it. Anyone who reaches"
        in refused.stderr
    )


def test_a_public_worker_warns_and_ctrl_c_ends_it() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [COMMAND, "worker", "--host", "0.0.0.0", "--public", "--port", str(port), "-t", "1"],
        env=rpc_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    assert process.stderr.readline().startswith("Warning: Anyone who reaches this port")
    wait_until_listening(port, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT
    process.stderr.close()


def test_without_a_worker_at_the_address_the_chat_reports_an_error() -> None:
    done = chat(["--rpc", "127.0.0.1:1"])
    assert done.returncode == 1
    assert (
        done.stderr == "Error: --rpc 127.0.0.1:1: Connection refused; is a worker running there?\n"
    )


def test_without_rpc_in_the_build_the_error_names_the_fix() -> None:
    done = chat(["--rpc", "127.0.0.1:1"], env=dict(os.environ))
    assert done.returncode == 1
    assert 'was built without RPC; to build it with RPC: CMAKE_ARGS="-DGGML_RPC=on"' in done.stderr


def test_two_processes_give_the_answer_of_one() -> None:
    alone = chat([])
    with worker() as endpoint:
        together = chat(["--rpc", endpoint, "--n-cpu-moe", "20"])
    assert together.returncode == 0, together.stderr
    assert together.stdout == alone.stdout != ""
    assert "31 of 31 layers on RPC0, the experts of 20 in RAM" in together.stderr


def test_a_plan_with_workers_names_them_in_llama_cpps_options_too(model: Path) -> None:
    with worker() as one, worker() as other:
        words = ["--rpc", one, "--rpc", other, "--vram", "8GiB,6GiB", "--ram", "16GiB"]
        done = subprocess.run(
            [COMMAND, "plan", str(model), *words],
            env=rpc_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    *_, command = done.stdout.splitlines()
    assert command.startswith(f"llama-cli -m {model} --rpc {one},{other} -ts 20,13 -c 4096 ")


def test_three_processes_give_the_answer_of_one() -> None:
    alone = chat([])
    with worker() as one, worker() as other:
        workers = ["--rpc", one, "--rpc", other]
        together = chat([*workers, "--vram", "400MiB,300MiB"])
        sizes = chat([*workers, "--vram", "1GiB,1GiB,1GiB"])
    assert together.returncode == 0, together.stderr
    assert together.stdout == alone.stdout != ""
    assert "31 of 31 layers, 19 on RPC0, 12 on RPC1" in together.stderr
    assert sizes.stderr == "Error: --vram: got 3 sizes; give one, or one for each of RPC0, RPC1\n"


def chat(words: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, "chat", str(demo_gguf("Q8_0")), "-p", "Hello", "-c", "512", "-t", "1"]
    return subprocess.run(
        [*command, "-fa", "on", "--temp", "0", "-n", "12", *words],
        env=rpc_environment() if env is None else env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_ram_without_a_unit_is_refused_and_zero_is_accepted(model: Path) -> None:
    words = ["plan", str(model), "--vram", "8GiB", "--ram"]
    slip = CliRunner().invoke(main, [*words, "16"])
    assert slip.exit_code == 2
    assert "'16' is a number of bytes, less than 64 MiB; write 16GiB" in slip.stderr
    assert CliRunner().invoke(main, [*words, "64MiB"]).exit_code == 0
    assert CliRunner().invoke(main, [*words[:-2], "0", "--ram", "16GiB"]).exit_code == 0
