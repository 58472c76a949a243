"""Loading: what is wrong with a checkpoint is named and nothing is half loaded; memory stays at the model itself."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from farthing.errors import CheckpointError, UserError
from farthing.models import sources
from farthing.models.checkpoint import load_model, save_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.weights import Item, write_weights
from farthing.text.bpe import train

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ModelConfig(300, 16, 20, 2, 2, 1, 8, qk_norm=True)
NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(initialise(Decoder(CONFIG), 0), None, tmp_path / "model")
    return tmp_path / "model"


def edit(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a single-file checkpoint."""
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})


def put(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors[NAME].view(-1).__setitem__(5, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop(NAME), rf"no tensor {NAME}"),
        (lambda tensors: tensors.update(surplus=torch.zeros(2)), r"model\.safetensors: surplus is not part"),
        (
            lambda tensors: tensors.update({NAME: torch.zeros(16, 20)}),
            rf"{NAME} has shape \[16, 20\], expected \[20, 16\]",
        ),
        (
            lambda tensors: tensors.update({NAME: torch.zeros(20, 16, dtype=torch.int32)}),
            rf"{NAME} has dtype I32",
        ),
        (
            lambda tensors: tensors.update({NAME: torch.zeros(20, 16).to(torch.float8_e4m3fn)}),
            rf"no {NAME}_scale_inv",
        ),
        (put(float("nan")), rf"model\.safetensors: {NAME} holds values that are not finite"),
        (put(float("-inf")), rf"{NAME} holds values that are not finite"),
    ],
)
def test_a_wrong_tensor_is_named(saved: Path, change: Callable[..., object], said: str) -> None:
    edit(saved, change)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value) and isinstance(caught.value, UserError)


def test_a_value_too_large_for_the_wanted_dtype_is_named(saved: Path) -> None:
    edit(saved, put(1e30))
    load_model(saved)
    with pytest.raises(CheckpointError, match=rf"{NAME} holds values that are not finite"):
        load_model(saved, dtype="float16")


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file_is_named_before_anything_is_read(saved: Path, kept: int) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: truncated"):
        load_model(saved)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"not json", "header is not JSON"),
        (b"[]      ", "not a JSON object"),
        (b'{"a": 1}', "entry for a is damaged"),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', r"4 bytes cannot be F32 \[2\]"),
        (b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[4,0]}}', "a is damaged"),
        (b'{"a":{"dtype":"F4","shape":[],"data_offsets":[0,4]}}', "dtype F4"),
    ],
)
def test_a_damaged_header_is_named(saved: Path, header: bytes, said: str) -> None:
    (saved / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    with pytest.raises(CheckpointError, match=said):
        load_model(saved)


def test_shards_with_an_index_are_read(saved: Path) -> None:
    whole = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    write_weights(saved, [Item(name, tensor, "F32") for name, tensor in whole.items()], shard_bytes=6000)
    shards = sorted(path.name for path in saved.glob("model-*.safetensors"))
    assert len(shards) > 2 and shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    model, _ = load_model(saved)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in whole.items())

    index = saved / "model.safetensors.index.json"
    data = json.loads(index.read_text())
    assert data["metadata"]["total_size"] == sum(4 * tensor.numel() for tensor in whole.values())
    (saved / shards[1]).rename(saved / "elsewhere")
    with pytest.raises(CheckpointError, match=rf"{shards[1]}: no such file"):
        load_model(saved)
    (saved / "elsewhere").rename(saved / shards[1])
    (saved / "again.safetensors").write_bytes((saved / shards[0]).read_bytes())
    data["weight_map"]["x"] = "again.safetensors"
    index.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="stands in"):
        load_model(saved)
    data["weight_map"]["x"] = "../outside.safetensors"
    index.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="no file in this directory"):
        load_model(saved)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="weight_map"):
        load_model(saved)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_refused(saved: Path, name: str) -> None:
    (saved / "model.safetensors").rename(saved / name)
    with pytest.raises(CheckpointError, match=rf"{name} is a pickle, which can run any code"):
        load_model(saved)


def test_no_weights_at_all(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights; expected"):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"auto_map": {"AutoModelForCausalLM": "modeling_mine.Model"}},
            "modeling_mine.Model.*never runs code",
        ),
        ({"auto_map": "modeling_mine.Model"}, "never runs code"),
        ({"model_type": "qwen33"}, "qwen33.*did you mean 'qwen3'"),
        ({"model_type": "nothing-known"}, "nothing-known.*farthing knows deepseek_v2"),
        ({"model_type": None}, "model_type is missing"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "16"}, "hidden_size = '16', expected int"),
        ({"num_hidden_layers": True}, "num_hidden_layers = True, expected int"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"head_dim": 7}, "odd"),
        ({"num_key_value_heads": 3}, "not a multiple"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "factor is missing"),
        ({"rope_scaling": {"rope_type": "default", "mrope_section": [1, 2]}}, "mrope_section"),
        ({"quantization_config": {"quant_method": "awq"}}, "'awq' are not supported"),
    ],
)
def test_a_configuration_that_cannot_be_computed_is_refused(
    saved: Path, change: dict[str, object], said: str
) -> None:
    path = saved / "config.json"
    data = {key: value for key, value in (json.loads(path.read_text()) | change).items() if value is not None}
    path.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=said) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


def test_code_of_the_authors_is_not_run_and_not_needed(saved: Path) -> None:
    """DeepSeek's and ERNIE's checkpoints name classes of their own in auto_map; ours stand in for exactly those."""
    from farthing.models.families import find

    named = {"AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"}
    find("deepseek_v3")._refuse_code({"auto_map": named})
    with pytest.raises(CheckpointError, match="never runs code"):
        find("qwen3")._refuse_code({"auto_map": named})


def test_config_json_that_is_missing_or_no_json(saved: Path) -> None:
    (saved / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read as JSON"):
        load_model(saved)
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        load_model(saved)


def test_a_path_that_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such directory"):
        load_model(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="a file"):
        load_model(tmp_path / "file")


def test_a_hub_id_is_fetched_without_what_could_be_run(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = {}

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    model, _ = load_model("someone/model-1.5B")
    assert model.config.hidden_size == 16
    assert "*.safetensors" in asked["someone/model-1.5B"]
    assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in asked["someone/model-1.5B"])
    sources.local_directory("someone/model", weights=False)
    assert "*.safetensors" not in asked["someone/model"]


def test_a_hub_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*args: object, **kwargs: object) -> str:
        raise OSError("offline\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match=r"not to be had from the hub: offline$"):
        load_model("someone/model")


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(tmp_path: Path) -> None:
    tokenizer = train(["one and one is two"], 300)
    config = ModelConfig(tokenizer.vocab_size - 1, 16, 20, 1, 2, 1, 8, qk_norm=True)
    save_model(initialise(Decoder(config), 0), tokenizer, tmp_path / "model")
    with pytest.raises(CheckpointError, match="tokens, the model only"):
        load_model(tmp_path / "model")


def test_files_of_another_kind_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="another kind"):
        save_model(initialise(Decoder(CONFIG), 0), None, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


MEASURE = """
import json, sys, threading, time
from farthing.models.checkpoint import load_model

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

peak, done = [anonymous()], threading.Event()
def watch():
    while not done.wait(0.004):
        peak[0] = max(peak[0], anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
model, _ = load_model(sys.argv[1])
done.set(); watcher.join()
print(json.dumps({"peak": max(peak[0], anonymous()), "after": anonymous(),
    "model": sum(p.numel() * p.element_size() for p in model.parameters()),
    "largest": max(p.numel() * p.element_size() for p in model.parameters())}))
"""


def write_sparse(directory: Path, config: ModelConfig) -> None:
    """A checkpoint of zeros in bfloat16, in two shards, that takes no room on the disk and no time to write."""
    from farthing.models.arithmetic import parameter_shapes
    from farthing.models.families import find

    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(find(config.model_type).write(config)))
    shapes = list(parameter_shapes(config).items())
    weight_map = {}
    for number, part in enumerate((shapes[: len(shapes) // 2], shapes[len(shapes) // 2 :]), start=1):
        header, position = {}, 0
        for name, shape in part:
            size = 2 * torch.Size(shape).numel()
            header[name] = {
                "dtype": "BF16",
                "shape": list(shape),
                "data_offsets": [position, position + size],
            }
            position += size
            weight_map[name] = f"model-{number}.safetensors"
        text = json.dumps(header).encode()
        with (directory / f"model-{number}.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + position)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_memory_is_the_model_and_little_more(tmp_path: Path) -> None:
    """About 1 GB of weights: anonymous memory stays below model + largest tensor + 200 MB; files do not count."""
    config = ModelConfig(24000, 1024, 4096, 14, 16, 16, 64, qk_norm=True)
    write_sparse(tmp_path / "model", config)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert seen["model"] > 1.0e9
    assert seen["peak"] <= seen["model"] + seen["largest"] + 200e6, seen
