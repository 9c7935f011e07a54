"""The API image needs no ML library: importing the service pulls none in, Celery's publisher included."""

import json
import subprocess
import sys

_HEAVY = {"torch", "onnx", "onnxruntime", "onnx_ir", "onnxscript", "numpy", "pyarrow", "worker", "client"}


def test_the_service_pulls_in_no_ml_library() -> None:
    program = (
        "import sys, json, service.app, service.__main__\n"
        "from service.doorbell import make_doorbell\n"
        "bell = make_doorbell('redis://127.0.0.1:1/0'); bell.ring('x'); bell.close()\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"fastapi", "celery", "sqlalchemy", "redis"} <= loaded
    assert not loaded & _HEAVY
