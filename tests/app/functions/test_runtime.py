"""The functions as Lambda runs them: the image's entry point talks to the runtime API."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Event, Thread
from typing import Any

import pytest

from components.aws.function_table import Resources, function_table
from components.aws.scope import Scope

_API = "/2018-06-01/runtime/invocation/"


class RuntimeApi:
    """What Lambda offers a container: one event, and a place for the answer."""

    def __init__(self, event: object) -> None:
        self.answers: Queue[tuple[str, Any]] = Queue()
        waiting = [event]
        self._over = over = Event()
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if not waiting:
                    over.wait()
                    return
                body = json.dumps(waiting.pop()).encode()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", "r-1")
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:function")
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 60_000))
                self.send_header("Lambda-Runtime-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                answers.put((self.path.removeprefix(_API), json.loads(body)))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def invoke() -> Iterator[Any]:
    opened: list[tuple[RuntimeApi, subprocess.Popen[bytes]]] = []

    def run(handler: str, event: object, **environment: str) -> tuple[str, Any]:
        api = RuntimeApi(event)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("APP_", "AWS_"))}
        given = {
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            **environment,
        }
        process = subprocess.Popen([sys.executable, "-m", "awslambdaric", handler], env={**clean, **given})
        opened.append((api, process))
        return api.answers.get(timeout=30)

    yield run
    for api, process in opened:
        process.kill()
        process.wait()
        api.close()


def handlers() -> list[str]:
    scope = Scope("x", "123456789012", "us-east-1")
    names = dict.fromkeys(("reports", "kyc", "archive", "system", "price-alert"), "x")
    return [spec.module for spec in function_table(Resources(scope, names, names, "k", "k", "k"), ())]


def test_an_event_is_handled_and_answered(invoke: Any) -> None:
    body = json.dumps({"at": 1, "moves": {}, "alerts": []})
    event = {"Records": [{"messageId": "m0", "body": body}, {"messageId": "m1", "body": "{}"}]}
    path, answer = invoke(
        "app.functions.price_alert.handler", event, APP_PRICE_ALERT_TOPIC_ARN="arn:aws:sns:us-east-1:1:t"
    )
    assert path == "r-1/response"
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}


@pytest.mark.parametrize("module", handlers())
def test_every_handler_of_the_table_starts(invoke: Any, module: str) -> None:
    """An event that is none is an error of the handler, not of the import."""
    _, answer = invoke(f"app.functions.{module}.handler", {"wrong": True})
    assert not answer.get("errorType", "").startswith("Runtime.")


def test_a_missing_setting_is_named(invoke: Any) -> None:
    path, answer = invoke("app.functions.price_alert.handler", {"Records": []})
    assert path == "r-1/error"
    assert answer["errorType"] == "ConfigurationError"
    assert "APP_PRICE_ALERT_TOPIC_ARN is not set" in answer["errorMessage"]
