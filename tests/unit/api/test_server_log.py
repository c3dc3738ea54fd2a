"""What the server says on its own stderr: of what libraries do, only what is wrong."""

import os
import subprocess
import sys

import httpx

from nas.settings import Settings
from nas.spec import spec_to_json
from tests.gguf_files import write_gguf
from tests.hub import SIGNATURE, FakeHub, serving
from tests.unit.api.seeded import demo_spec

AXES = {"num_layers": [1, 2]}


def test_signed_addresses_do_not_reach_it(tmp_path):
    write_gguf(tmp_path / "tiny.gguf")
    settings = Settings(home=tmp_path / "home")
    with serving(FakeHub()) as hub:
        hub.add("org/tiny", {"tiny.gguf": (tmp_path / "tiny.gguf").read_bytes()})
        environment = (
            os.environ | settings.environment() | hub.environment() | {"HF_HOME": str(tmp_path / "hf")}
        )
        command = (sys.executable, "-m", "api", "--port", "0", "--page-only")
        with subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as server:
            try:
                address = server.stdout.readline().split()[-1]
                spec = spec_to_json(demo_spec()) | {
                    "parent": "hub:org/tiny#tiny.gguf", "axes": AXES, "budget": {"max_parameters": 10**6},
                }  # fmt: skip
                answer = httpx.post(f"{address}/api/v1/searches", json=spec)
                assert answer.status_code == 201, answer.text
            finally:
                server.terminate()
            said = server.stderr.read()
        assert any(request.path.startswith("/storage/") for request in hub.requests)
    assert SIGNATURE not in said
    assert "HTTP Request" not in said
