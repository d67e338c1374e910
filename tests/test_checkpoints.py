"""Checkpoints of every kind become safetensors, and none of them runs code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nandlib.errors import ModelError
from nandlib.models.checkpoints import convert, read_state


@pytest.mark.filterwarnings("ignore::FutureWarning:torch.jit")
def test_checkpoints_of_every_kind_become_safetensors(tmp_path):
    state = torch.nn.Linear(2, 3).state_dict()
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"trainable_linearlayer": state}, tmp_path / "april.pth")
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "laion.pt")
    module = torch.nn.Linear(2, 3)
    module.load_state_dict(state)
    module.register_buffer("input_resolution", torch.tensor(336))
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, 2)), tmp_path / "openai.pt")
    for name in ("plain.pth", "april.pth", "laion.pt", "openai.pt"):
        convert(tmp_path / name, tmp_path / "deep" / f"{name}.safetensors")
        loaded = load_file(tmp_path / "deep" / f"{name}.safetensors")
        assert {k: v.tolist() for k, v in loaded.items()} == {k: v.tolist() for k, v in state.items()}
    with pytest.raises(ModelError, match="openai.pt is a TorchScript archive, which can run code: 'nand fetch' verifies"):
        read_state(tmp_path / "openai.pt")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": "b"}, tmp_path / "words.pth")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    for name in ("junk.pth", "list.pth", "words.pth", "junk.safetensors"):
        with pytest.raises(ModelError, match=f"{name} (holds no weights|is not a state dict)"):
            read_state(tmp_path / name)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


def test_a_pickle_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="holds no weights that can be read"):
        read_state(tmp_path / "evil.pth")
    assert not (tmp_path / "evil").exists()
