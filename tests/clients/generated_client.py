"""A typed client that openapi-python-client makes of a pipeline's document. Run by tests/tests/clients.rs:
generated_client.py http://HOST:PORT"""

import pathlib
import subprocess
import sys
import tempfile

URL = sys.argv[1]
GENERATOR = pathlib.Path(sys.executable).with_name("openapi-python-client")

with tempfile.TemporaryDirectory() as folder:
    config = pathlib.Path(folder, "config.yml")
    config.write_text("post_hooks: []\n")  # They format the code by a program that need not be there.
    command = [GENERATOR, "generate", "--url", f"{URL}/ai/openapi.json", "--config", config, "--fail-on-warning"]
    subprocess.run(command, cwd=folder, check=True)
    sys.path.insert(0, f"{folder}/millstream-client")

    from millstream_client import Client
    from millstream_client.api.pipelines import ai
    from millstream_client.models import AiBody, AiResponse200, Problem

    client = Client(URL)
    answer = ai.sync(client=client, body=AiBody(prompt="What needs flour?"))
    assert isinstance(answer, AiResponse200) and answer.text and len(answer.vectors[0]) == 96, answer
    problem = ai.sync(client=client, body=AiBody(prompt=1))
    assert isinstance(problem, Problem) and problem.errors[0].path == "/prompt", problem
